package det_test

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"

	"github.com/sandtest/go-sandtest/det"
)

func draw(s *rand.ChaCha8, n int) []byte {
	b := make([]byte, n)
	s.Read(b)
	return b
}

// Golden files of whoever uses the sandbox depend on these bytes.
func TestNewStreamGolden(t *testing.T) {
	tests := []struct {
		seed    uint64
		src     det.Source
		who     det.Lineage
		counter uint64
		want    string
	}{
		{0, det.GetRandom, det.Root, 0, "97ca5e823d567b1506da8a740db180ac"},
		{1<<40 | 2, det.URandom, "0.3.1", 1<<32 | 5, "d28e6d7e24da4496c53a061f023d9684"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%d %s %s %d", tt.seed, tt.src, tt.who, tt.counter), func(t *testing.T) {
			got := hex.EncodeToString(draw(det.NewStream(tt.seed, tt.src, tt.who, tt.counter), 16))
			if got != tt.want {
				t.Errorf("first 16 bytes = %s, want %s", got, tt.want)
			}
		})
	}
}

func TestNewStreamIsRepeatable(t *testing.T) {
	const n = 1000
	want := draw(det.NewStream(7, det.URandom, "0.2", 3), n)

	// Neither the size of the reads nor what another stream does in between may
	// show.
	s, other := det.NewStream(7, det.URandom, "0.2", 3), det.NewStream(7, det.URandom, "0.3", 3)
	var got []byte
	for len(got) < n {
		got = append(got, draw(s, min(1+len(got)%17, n-len(got)))...)
		draw(other, 5)
	}
	if !slices.Equal(got, want) {
		t.Error("same arguments, other bytes")
	}
}

func TestNewStreamArguments(t *testing.T) {
	type key struct {
		seed    uint64
		src     det.Source
		who     det.Lineage
		counter uint64
	}
	keys := []key{
		{0, det.GetRandom, det.Root, 0},
		{1, det.GetRandom, det.Root, 0},
		{1 << 63, det.GetRandom, det.Root, 0},
		{0, det.GetRandom, det.Root, 1},
		{0, det.GetRandom, det.Root, 1 << 63},
		{0, det.GetRandom, "0.1", 0},
		{0, det.GetRandom, "0.1.1", 0},
		{0, det.GetRandom, "0.11", 0},
		{0, det.ATRandom, det.Root, 0},
		{0, det.URandom, det.Root, 0},
		{0, det.UUID, det.Root, 0},
		{0, det.BootID, det.Root, 0},
		// The same characters, divided otherwise between source and lineage.
		{0, "a", "bc", 0},
		{0, "ab", "c", 0},
		{0, "", "abc", 0},
	}
	seen := map[string]key{}
	for _, k := range keys {
		b := string(draw(det.NewStream(k.seed, k.src, k.who, k.counter), 16))
		if twin, ok := seen[b]; ok {
			t.Errorf("%+v and %+v give the same bytes", twin, k)
		}
		seen[b] = k
	}
}

func TestNewUUID(t *testing.T) {
	version4 := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	s, raw := det.NewStream(0, det.UUID, det.Root, 0), det.NewStream(0, det.UUID, det.Root, 0)
	seen := map[string]bool{}
	for range 1000 {
		id := det.NewUUID(s)
		if !version4.MatchString(id) {
			t.Fatalf("UUID %q: want the shape %s", id, version4)
		}
		if seen[id] {
			t.Fatalf("UUID %q drawn twice", id)
		}
		seen[id] = true

		// All but the six fixed bits come from the stream, in its order.
		b := draw(raw, 16)
		b[6], b[8] = 0x40|b[6]&0x0f, 0x80|b[8]&0x3f
		if want := fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]); id != want {
			t.Fatalf("UUID = %s, want %s", id, want)
		}
	}
}
