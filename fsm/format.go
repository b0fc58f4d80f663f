package fsm

import "fmt"

type formatArgs struct {
	Format uint64 `json:"format"`
}

// upgradeFormat is format.upgrade. It may be proposed before replicas are
// ready, and is executed only when the cosign threshold of them has stated, by
// ready, that it runs the format.
func (t *transition) upgradeFormat(args formatArgs, when occasion) *problem {
	if args.Format <= t.meta.Format {
		return refuse(FormatTooLow, "body.args.format", fmt.Sprintf("the ledger is at format %d", t.meta.Format))
	}
	ready := uint64(0)
	each(&t.view, tableReplica, func(_ string, r *ReplicaRecord) bool {
		if r.Standing == ReplicaActive && r.Format >= args.Format {
			ready++
		}
		return true
	})
	if want := t.drawAuthority().CosignThreshold; when == executing && ready < want {
		return refuse(ReplicasNotReady, "", fmt.Sprintf("%d of %d replicas stated format %d", ready, want, args.Format))
	}
	before := t.protects()
	t.changeMeta(func(m *Meta) {
		m.Format = args.Format
		m.Versions["format"] = t.next
	})
	if t.protects() && !before {
		t.beginProtection()
	}
	return nil
}
