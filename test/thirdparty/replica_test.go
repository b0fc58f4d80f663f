package thirdparty

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/test/freeport"
	"github.com/quorate/quorate/test/verifiertest"
)

// buildQuorate builds the program as a user does.
func buildQuorate(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "quorate")
	if out, err := exec.Command("go", "build", "-tags", "hashicorpmetrics", "-o", bin, "../../cmd/quorate").CombinedOutput(); err != nil {
		t.Fatalf("build quorate: %v\n%s", err, out)
	}
	return bin
}

// startDev runs `quorate dev` until the test ends, and demands that an
// interrupt stops it cleanly.
func startDev(t *testing.T, bin, dir string, port int) {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(bin, "dev", "--dir", dir, "--port", fmt.Sprint(port))
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case err := <-exited:
			if err != nil {
				t.Errorf("dev ended with %v:\n%s", err, log.String())
			}
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			t.Errorf("an interrupt did not stop dev in 30 s:\n%s", log.String())
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/checkpoint", port))
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case err := <-exited:
			exited <- err
			t.Fatalf("dev ended: %v\n%s", err, log.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("dev certified nothing in a minute:\n%s", log.String())
		}
	}
}

// rekeyLog has the council change the log's key. Whoever pins the key before, the
// new one or both reads on: the former pair's lines go on for a day, and log.vkeys
// names both.
func rekeyLog(t *testing.T, run func(...string) string, dir string, key func(string) string, url, old string) {
	t.Helper()
	var fresh struct {
		Ed25519 string `json:"ed25519"`
		MLDSA44 string `json:"mldsa44"`
	}
	answer := run("operator", "log-key", "--config", filepath.Join(dir, "r0.yaml"), "--output", "json")
	if err := json.Unmarshal([]byte(answer), &fresh); err != nil {
		t.Fatalf("%v in %s", err, answer)
	}
	before := verifier(t, string(get(t, url+"/log.vkey")))
	var proposal struct {
		ID string `json:"id"`
	}
	answer = run("propose", "log.rekey", "ed25519="+fresh.Ed25519, "mldsa44="+fresh.MLDSA44, "--key", key("alice"), "--yes", "--output", "json")
	if err := json.Unmarshal([]byte(answer), &proposal); err != nil {
		t.Fatalf("%v in %s", err, answer)
	}
	run("approve", proposal.ID, "--key", key("bob"), "--yes", "--wait", "certified")
	run("record", "--text", "under the new key", "--key", key("alice"), "--wait", "certified")

	lines := strings.Split(strings.TrimSpace(string(get(t, url+"/log.vkeys"))), "\n")
	if len(lines) != 2 || strings.Fields(lines[0])[0] != "1" {
		t.Fatalf("log.vkeys:\n%s", strings.Join(lines, "\n"))
	}
	newest := strings.Fields(lines[1])
	after, after44 := verifier(t, newest[1]), verifier(t, newest[2])
	if string(get(t, url+"/log.vkey")) != newest[1]+"\n" {
		t.Errorf("log.vkey is not the newest of log.vkeys")
	}
	raw := get(t, url+"/checkpoint")
	for deadline := time.Now().Add(time.Minute); !signedBy(raw, after) && time.Now().Before(deadline); raw = get(t, url+"/checkpoint") {
		time.Sleep(100 * time.Millisecond) // the replica takes the new key in use
	}
	for name, known := range map[string][]note.Verifier{
		"the key before": {before}, "the new key": {after}, "both": {before, after}, "the new pair": {after, after44},
	} {
		n, err := note.Open(raw, note.VerifierList(known...))
		if err != nil || len(n.Sigs) != len(known) {
			t.Errorf("with %s: %v", name, err)
		}
	}
	fresher := writeFile(t, filepath.Join(t.TempDir(), "log.vkey"), newest[1]+"\n")
	for name, vkey := range map[string]string{"the key before": old, "the new key": fresher} {
		if out, ok := runFsck(t, url+"/", vkey); !ok {
			t.Errorf("fsck with %s:\n%s", name, out)
		}
	}
}

func signedBy(raw []byte, v note.Verifier) bool {
	_, err := note.Open(raw, note.VerifierList(v))
	return err == nil
}

// A ledger that runs, as third parties see it: what the replicas serve and what
// an export holds, with decisions and a handover on it.
func TestARunningReplicaAndItsExport(t *testing.T) {
	bin, dir, port := buildQuorate(t), filepath.Join(t.TempDir(), "run"), freeport.Take(t, 104) // dev takes P to P+3 and P+100 to P+103
	startDev(t, bin, dir, port)
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	hash, err := os.ReadFile(filepath.Join(dir, "genesis"))
	if err != nil {
		t.Fatal(err)
	}
	genesis, err := ledger.ParseHash(strings.TrimSpace(string(hash)))
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, bin, args...)
		cmd.Env = append(os.Environ(), "QUORATE_SERVER="+url, "QUORATE_GENESIS="+genesis.String())
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("quorate %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
		}
		return string(out)
	}
	key := func(name string) string { return filepath.Join(dir, "keys", name+".key") }
	var proposal struct {
		ID string `json:"id"`
	}
	// A threshold is raised: the next seal is a handover, with a link in the chain.
	answer := run("propose", "policy.change", "rules.epoch.advance.threshold=3", "--key", key("alice"), "--yes", "--output", "json")
	if err := json.Unmarshal([]byte(answer), &proposal); err != nil {
		t.Fatalf("%v in %s", err, answer)
	}
	run("approve", proposal.ID, "--key", key("bob"), "--yes", "--wait", "certified")
	for i := range 5 {
		run("record", "--text", fmt.Sprintf("note %d", i), "--key", key("alice"), "--wait", "certified")
	}

	vkey := writeFile(t, filepath.Join(t.TempDir(), "log.vkey"), string(get(t, url+"/log.vkey")))
	for i := range 4 {
		replica := fmt.Sprintf("http://127.0.0.1:%d/", port+i)
		if out, ok := runFsck(t, replica, vkey); !ok {
			t.Errorf("fsck of replica %d:\n%s", i, out)
		}
	}
	rekeyLog(t, run, dir, key, url, vkey)
	export := filepath.Join(t.TempDir(), "export")
	run("export", "--decisions", "--out", export)
	if out, ok := runFsck(t, "file://"+export+"/", filepath.Join(export, "log.vkey")); !ok {
		t.Errorf("fsck of the export:\n%s", out)
	}
	run("verify", export, "--genesis", genesis.String())
	if out, ok := verifiertest.New(t, "../verifier-js").Export(t, export, genesis); !ok || !strings.Contains(out, "authority 2") {
		t.Errorf("the verifier in JavaScript, with two handovers:\n%s", out)
	}
}
