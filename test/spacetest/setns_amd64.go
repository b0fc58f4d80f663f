package spacetest

const sysSetns = 308 // the kernel's number on this processor
