package agent

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
)

// errCrash is what everything fails with once a crashDisk has crashed.
var errCrash = errors.New("the disk is gone")

// crashDisk is a disk in memory that crashes at its nth step. A step is all that
// is written or renamed at once; of the step at which it crashes a random part is
// there after it: nothing, some, or all.
type crashDisk struct {
	files map[string][]byte
	steps int // until the crash; negative: never
	full  bool
	rand  *rand.Rand
}

func newCrashDisk(seed uint64) *crashDisk {
	return &crashDisk{files: map[string][]byte{}, steps: -1, rand: rand.New(rand.NewPCG(seed, 1))}
}

// again is the disk after the crash.
func (d *crashDisk) again() *crashDisk {
	return &crashDisk{files: d.files, steps: -1, rand: d.rand}
}

func (d *crashDisk) crashes() (now bool, err error) {
	if d.full {
		return false, errors.New("no space left")
	}
	if d.steps == 0 {
		return false, errCrash
	}
	if d.steps > 0 {
		d.steps--
		return d.steps == 0, nil
	}
	return false, nil
}

func (d *crashDisk) read(name string, limit int64) ([]byte, error) {
	b, ok := d.files[name]
	switch {
	case !ok:
		return nil, fs.ErrNotExist
	case int64(len(b)) > limit:
		return b, &DamagedError{File: name, Reason: "too large"}
	}
	return slices.Clone(b), nil
}

func (d *crashDisk) replace(name string, write func(io.Writer) error) error {
	now, err := d.crashes()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	if now && d.rand.IntN(2) == 0 {
		return errCrash // the old one
	}
	d.files[name] = b.Bytes()
	if now {
		return errCrash
	}
	return nil
}

func (d *crashDisk) add(name string, b []byte) error {
	now, err := d.crashes()
	if err != nil {
		return err
	}
	if now {
		d.files[name] = append(d.files[name], b[:d.rand.IntN(len(b)+1)]...)
		return errCrash
	}
	d.files[name] = append(d.files[name], b...)
	return nil
}

func (d *crashDisk) cut(name string, length int64) error {
	now, err := d.crashes()
	if err != nil {
		return err
	}
	if !now || d.rand.IntN(2) == 0 {
		d.files[name] = slices.Clone(d.files[name][:length])
	}
	if now {
		return errCrash
	}
	return nil
}
