package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/keys"
)

// keyring is a node's ring and the keys that it holds open. It carries out what the
// ring's plan says, each step durable before the next. One goroutine uses it.
type keyring struct {
	shelf shelf
	ring  *ring
	held  map[ledger.Hash]*keys.File // active and next, and the one before until its file is destroyed
	fail  error                      // the ring was damaged, and is made anew
}

const ringName = "ring"

// testMessage is what a key signs when its file was read back.
var testMessage = keys.PurposePrefix("key-file-test")

// openKeyring opens the ring, or makes one of the configuration's key file, and opens
// the keys that it names. The key file may be gone if the ring has a successor.
func openKeyring(s shelf) (*keyring, error) {
	k := &keyring{shelf: s, held: map[ledger.Hash]*keys.File{}}
	b, err := s.read(ringName, maxRingBytes)
	var damaged *DamagedError
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.As(err, &damaged) {
		return nil, fmt.Errorf("open ring of keys: %w", err)
	}
	missing := errors.Is(err, fs.ErrNotExist)
	if err == nil {
		k.ring, err = decodeRing(ringName, b)
	}
	if err != nil && !missing {
		k.fail = fmt.Errorf("the ring of keys is made anew: %w", err)
	}
	first, err := s.open("")
	switch {
	case err == nil:
		id := ledger.Hash(first.Key.ID())
		if err := k.begin(id); err != nil {
			return nil, err
		}
		if !k.ring.find(id).Gone {
			k.held[id] = first
		}
	case k.ring == nil || k.ring.find(k.ring.Active).File == "" && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case !errors.Is(err, fs.ErrNotExist) && !(k.ring.destroying() && s.wiped("")):
		k.fail = err // not needed, but people put it there
	}
	return k, k.openWanted()
}

// openWanted opens the keys that may have to sign. The active one may be lost, if
// people made another and wait for the decision that puts it in force.
func (k *keyring) openWanted() error {
	for _, id := range k.wanted() {
		if k.held[id] != nil {
			continue
		}
		f, err := k.open(k.ring.find(id))
		if errors.Is(err, fs.ErrNotExist) {
			waits, other := k.rekeyed()
			if other != nil || waits == nil {
				return errors.Join(err, other)
			}
			k.held[ledger.Hash(waits.Key.ID())] = waits
			continue
		}
		if err != nil {
			return err
		}
		k.held[id] = f
	}
	return nil
}

// rekeyed is a key that people made and that the ring has not taken in yet; nil if
// there is none.
func (k *keyring) rekeyed() (*keys.File, error) {
	names, err := k.shelf.files()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, rekeyPrefix) {
			continue
		}
		f, err := k.shelf.open(name)
		if err != nil {
			return nil, err
		}
		if id := ledger.Hash(f.Key.ID()); rekeyName(id) == name && k.ring.find(id) == nil {
			return f, nil
		}
	}
	return nil, nil
}

// begin makes sure that the ring knows the key of the configuration: people may have
// put another there, also one that the ring had before.
func (k *keyring) begin(id ledger.Hash) error {
	if k.ring == nil {
		return k.write(newRing(id))
	}
	of := k.ring.find(id)
	if of == nil {
		return k.write(k.ring.adopted(id, "", 0))
	}
	kept := !of.Gone && (of.File == "" || k.there(of))
	active := id == k.ring.Active || k.there(k.ring.find(k.ring.Active))
	if kept && active {
		return nil
	}
	return k.write(k.ring.returned(id, kept, active))
}

// there reports whether a key's file is at its place, and holds the key open if it can.
// That of the configuration, which begin has opened, is another's.
func (k *keyring) there(of *ringKey) bool {
	if of.File == "" {
		return false
	}
	f, err := k.open(of)
	if err == nil {
		k.held[of.ID] = f
	}
	return !errors.Is(err, fs.ErrNotExist)
}

// has reports whether a key that a generation has in force is at hand, or was before the
// active one took its place: then what is known of the ledger is from before that, or the
// ring is about to go back.
func (k *keyring) has(id ledger.Hash, generation uint64) bool {
	of := k.ring.find(id)
	switch {
	case of == nil || k.ring.index(id) < k.ring.index(k.ring.Line):
		return false
	case k.held[id] != nil:
		return true
	case k.ring.left(generation):
		return k.ring.former(id) && !of.Gone
	}
	return k.ring.former(id) && !of.Replaced
}

// wanted are the keys that may have to sign.
func (k *keyring) wanted() []ledger.Hash {
	ids := []ledger.Hash{k.ring.Active}
	if k.ring.Next != nil {
		ids = append(ids, *k.ring.Next)
	}
	return ids
}

// open opens a key's file and compares it with its name.
func (k *keyring) open(of *ringKey) (*keys.File, error) {
	f, err := k.shelf.open(of.File)
	if err != nil {
		return nil, err
	}
	if ledger.Hash(f.Key.ID()) != of.ID {
		return nil, fmt.Errorf("open key file %s: it holds the key %s, the ring of keys says %s", of.File, f.Key.ID(), of.ID)
	}
	return f, nil
}

// write makes a ring durable, and then the one in force.
func (k *keyring) write(r *ring) error {
	if k.ring != nil {
		r.Writes = k.ring.Writes + 1
	}
	b, err := r.encode()
	if err == nil {
		err = k.shelf.replace(ringName, func(w io.Writer) error { _, err := w.Write(b); return err })
	}
	if err != nil {
		// Whether it is there is not known; each step may be done twice.
		return fmt.Errorf("write ring of keys: %w", err)
	}
	k.ring = r
	return nil
}

// make has a new key named as the next: R1, R2 and R4. known says whether the ledger has a
// key already.
func (k *keyring) make(fresh func() (*keys.File, error), known func(ledger.Hash) bool) error {
	f, err := k.candidate(known)
	if err != nil {
		return err
	}
	if f == nil {
		made, err := fresh()
		if err != nil {
			return err
		}
		id := ledger.Hash(made.Key.ID())
		if err := k.shelf.put(keyName(id), made); err != nil {
			return err
		}
		// Crash here (R1): a file that no ring names, which candidate finds.
		if f, err = k.readBack(id); err != nil {
			return err
		}
	}
	id := ledger.Hash(f.Key.ID())
	if err := k.write(k.ring.named(id, keyName(id))); err != nil {
		return err
	}
	k.held[id] = f
	return nil
}

// candidate is a key that was made before a crash and that nobody has heard of.
func (k *keyring) candidate(known func(ledger.Hash) bool) (*keys.File, error) {
	names, err := k.shelf.files()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if !isCandidate(name) || slices.ContainsFunc(k.ring.Keys, func(of ringKey) bool { return of.File == name }) {
			continue
		}
		f, err := k.shelf.open(name)
		if err != nil {
			continue // an empty or torn one; its name is never wanted again
		}
		id := ledger.Hash(f.Key.ID())
		if keyName(id) == name && !known(id) {
			return k.readBack(id)
		}
	}
	return nil, nil
}

// readBack opens a key file that was just written, and has the key sign (R2).
func (k *keyring) readBack(id ledger.Hash) (*keys.File, error) {
	f, err := k.open(&ringKey{ID: id, File: keyName(id)})
	if err != nil {
		return nil, err
	}
	if !f.Key.Public().Verify(testMessage, f.Key.Sign(testMessage)) {
		return nil, fmt.Errorf("open key file %s: its key does not sign", keyName(id))
	}
	return f, nil
}

// announce makes an announcement durable before anybody hears it: R5.
func (k *keyring) announce(sign func(next *keys.File) ([]byte, error)) error {
	envelope, err := sign(k.held[*k.ring.Next])
	if err != nil {
		return err
	}
	return k.write(k.ring.announced(envelope))
}

// turn takes a successor into force: R7.
func (k *keyring) turn(to ledger.Hash, from, generation uint64) error {
	if k.held[to] == nil {
		f, err := k.open(k.ring.find(to))
		if err != nil {
			return err
		}
		k.held[to] = f
	}
	return k.write(k.ring.turned(to, from, generation))
}

// back takes a former key into force again, whose successors the ledger left behind, and
// reports whether it could. A file that is not there is not looked for again: people put
// it back and start the agent anew, or have the node re-keyed.
func (k *keyring) back(to ledger.Hash, follows *ledger.Hash, epoch, generation uint64) (bool, error) {
	if k.held[to] == nil {
		f, err := k.open(k.ring.find(to))
		if errors.Is(err, fs.ErrNotExist) {
			return false, k.write(k.ring.replaced(to))
		}
		if err != nil {
			return false, err
		}
		k.held[to] = f
	}
	// Crash before it is there: the key that the ledger left is active still, and a later
	// life goes back. None of those that ended is destroyed before.
	return true, k.write(k.ring.wentBack(to, follows, epoch, generation))
}

// drop gives the successor up.
func (k *keyring) drop(epoch uint64) error { return k.write(k.ring.dropped(epoch)) }

// waiting finds the file of a key that the ledger has in force and the ring does not
// know; nil if it is not there.
func (k *keyring) waiting(id ledger.Hash) (f *keys.File, name string, err error) {
	for _, name := range []string{rekeyName(id), keyName(id)} {
		f, err := k.open(&ringKey{ID: id, File: name})
		if !errors.Is(err, fs.ErrNotExist) {
			return f, name, err
		}
	}
	return nil, "", nil
}

// adopt takes such a key into force: it begins a line.
func (k *keyring) adopt(f *keys.File, name string, from, generation uint64) error {
	id := ledger.Hash(f.Key.ID())
	if err := k.write(k.ring.adopted(id, name, from).noted(generation)); err != nil {
		return err
	}
	k.held[id] = f
	return nil
}

// recall finds the successor that the ledger has on the shelf: its ring was lost, or it
// was given up. It reports whether it is there.
func (k *keyring) recall(id ledger.Hash, epoch uint64) (bool, error) {
	f, err := k.open(&ringKey{ID: id, File: keyName(id)})
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := k.write(k.ring.recalled(id, keyName(id), epoch)); err != nil {
		return false, err
	}
	k.held[id] = f
	return true, nil
}

// destroy removes the files of keys that are of no more use: R9. One that can't be
// removed does not keep the others.
func (k *keyring) destroy(lapsed func(*ringKey) bool) (gone []ledger.Hash, err error) {
	for _, of := range k.ring.Keys {
		if of.Ended == nil || of.Gone || !lapsed(&of) {
			continue
		}
		done, failed := k.destroyFile(&of)
		if failed != nil {
			err = errors.Join(err, failed)
			continue
		}
		// Crash here: no file, which destroy takes for done.
		if failed := k.write(done); failed != nil {
			return gone, errors.Join(err, failed)
		}
		delete(k.held, of.ID)
		if !done.find(of.ID).Replaced {
			gone = append(gone, of.ID)
		}
	}
	return gone, err
}

// destroyFile removes a key's file and gives the ring after it. People may have put
// another at the place that the configuration names: only what is proven to be the key
// is destroyed there, or what is left of it.
func (k *keyring) destroyFile(of *ringKey) (*ring, error) {
	if of.File == "" {
		f, err := k.shelf.open("")
		var others *KeyFileError
		switch {
		case errors.As(err, &others), err == nil && ledger.Hash(f.Key.ID()) != of.ID:
			return k.ring.replaced(of.ID), nil
		case err != nil && !errors.Is(err, fs.ErrNotExist) && !k.shelf.wiped(""):
			return nil, fmt.Errorf("whether the key file still holds %s, which is to be destroyed, is not known: %w", of.ID, err)
		}
	}
	return k.ring.destroyed(of.ID), k.shelf.destroy(of.File)
}
