package det_test

import (
	"testing"

	"github.com/sandtest/go-sandtest/det"
)

func TestLineageChild(t *testing.T) {
	tests := []struct {
		name string
		got  det.Lineage
		want det.Lineage
	}{
		{"command", det.Root, "0"},
		{"first child", det.Root.Child(1), "0.1"},
		{"tenth child", det.Root.Child(10), "0.10"},
		{"grandchild", det.Root.Child(2).Child(3), "0.2.3"},
		// Without the dot these two would be one process.
		{"twelfth child", det.Root.Child(12), "0.12"},
		{"second of the first", det.Root.Child(1).Child(2), "0.1.2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.got != tt.want {
				t.Errorf("lineage = %q, want %q", tt.got, tt.want)
			}
		})
	}
}
