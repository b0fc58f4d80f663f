package spacetest

const sysSetns = 268 // the kernel's number on this processor
