package saved

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hamgr/hamgr/hamgr/core"
)

func example() State {
	return State{Cluster: "hamgr", Index: 9, Time: time.Unix(5, 0).UTC(), State: core.State{Index: 9, Retired: 2,
		Nodes: map[string]core.Node{"h1": {Name: "h1", ID: "i"}},
		Protections: map[string]core.Protection{"g1": {Domain: "g1", UUID: "u", Primary: "h1", Mode: core.Buffer, Epoch: core.DefaultEpoch,
			Generation: 7, Phase: core.Solo, OnLoss: core.OnLossRestart}},
		Definitions: map[string]string{"g1": "<domain type='kvm'>&amp;</domain>"}}}
}

func encoded(t testing.TB, s State) []byte {
	t.Helper()
	data, err := Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRoundTrip(t *testing.T) {
	data := encoded(t, example())
	got, err := Decode(data)
	if err != nil || !reflect.DeepEqual(got, example()) {
		t.Fatalf("%+v, %v", got, err)
	}
	again, err := json.Marshal(json.RawMessage(data)) // as it goes over the API
	if err != nil {
		t.Fatal(err)
	}
	if got, err = Decode(again); err != nil || !reflect.DeepEqual(got, example()) {
		t.Fatalf("without white space: %+v, %v", got, err)
	}
}

// TestRefused: each with the reason, whatever octet was changed or wherever it was cut.
func TestRefused(t *testing.T) {
	data := encoded(t, example())
	for n := range len(data) - 1 { // the last is the line's end
		if _, err := Decode(data[:n]); !errors.Is(err, ErrFormat) {
			t.Fatalf("cut after %d octets: %v", n, err)
		}
	}
	for i := bytes.Index(data, []byte(`"cluster"`)); i < len(data)-6; i++ {
		changed := bytes.Clone(data)
		if changed[i] == ' ' || changed[i] == '\n' {
			continue
		}
		if changed[i]++; changed[i] == ' ' || changed[i] == '\n' {
			continue
		}
		if _, err := Decode(changed); err == nil {
			t.Fatalf("octet %d was changed from %q", i, data[i])
		}
	}
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"a newer version":   {bytes.Replace(data, []byte(`"hamgr_state": 1`), []byte(`"hamgr_state": 2`), 1), ErrVersion},
		"another document":  {[]byte(`{"kind": "Pod"}`), ErrFormat},
		"two":               {append(bytes.Clone(data), data...), ErrFormat},
		"changed":           {bytes.Replace(data, []byte(`"primary": "h1"`), []byte(`"primary": "h2"`), 1), ErrChecksum},
		"of no cluster":     {encoded(t, with(func(s *State) { s.Cluster = "" })), ErrFormat},
		"of no index":       {encoded(t, with(func(s *State) { s.Index = 8 })), ErrFormat},
		"without a secret":  {encoded(t, with(func(s *State) { s.State.Definitions = nil })), ErrFormat},
		"with a wrong name": {encoded(t, with(func(s *State) { s.State.Protections["g2"] = s.State.Protections["g1"] })), ErrFormat},
		"at its end":        {encoded(t, with(func(s *State) { s.State.Retired = 1 << 62 })), ErrFormat},
		"too large":         {bytes.Repeat([]byte(" "), MaxSize+1), ErrFormat},
	} {
		if _, err := Decode(c.data); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func with(change func(*State)) State {
	s := example()
	change(&s)
	return s
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(path)
	st, err := os.Stat(path)
	if err != nil || string(text) != "new" || st.Mode().Perm() != 0o600 {
		t.Fatalf("%q, %v, %v", text, st, err)
	}
	if err := Write(filepath.Join(dir, "none", "state.json"), nil); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("%v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "taken"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Write(filepath.Join(dir, "taken"), []byte("x")); err == nil {
		t.Error("a directory was replaced")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*new*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// FuzzDecode: whatever is in a file, it is refused or it is a state that can be saved. sealed
// puts a right checksum to a content.
func FuzzDecode(f *testing.F) {
	data, err := Encode(example())
	if err != nil {
		f.Fatal(err)
	}
	content, err := json.Marshal(example())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data, false)
	f.Add([]byte(`{"hamgr_state":1,"sha256":"","content":{}}`), false)
	f.Add(content, true)
	f.Fuzz(func(t *testing.T, data []byte, sealed bool) {
		if sealed {
			data = seal(data)
		}
		s, err := Decode(data)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrVersion) && !errors.Is(err, ErrChecksum) {
				t.Fatalf("%v", err)
			}
			return
		}
		once := encoded(t, s)
		again, err := Decode(once)
		if err != nil || !bytes.Equal(encoded(t, again), once) {
			t.Fatalf("%+v became %+v, %v", s, again, err)
		}
	})
}

func seal(content []byte) []byte {
	var compact bytes.Buffer
	if json.Compact(&compact, content) != nil {
		return content
	}
	sum := sha256.Sum256(compact.Bytes())
	return fmt.Appendf(nil, `{"hamgr_state":1,"sha256":"%x","content":%s}`, sum, content)
}
