package replica

// BreakLog makes Raft's log refuse writes while broken gives an error. Call it
// between Open and Run.
func (r *Replica) BreakLog(broken func() error) { r.injectLog = broken }
