package script

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sandtest/go-sandtest/supervisor"
)

// Condition is for [testscript.Params.Condition]: [sandbox:FEATURE] holds where the
// machine has a feature, and [sandbox] where there are sandboxes at all. Features are
// virtual-time, fixed-addresses, landlock, namespaces, with which process ids are the
// same in every run, and rdtsc, which then tells the virtual clock. Other conditions are an
// error.
func Condition(cond string) (bool, error) {
	if cond == "sandbox" {
		return has("trial run"), nil
	}
	feature, ok := strings.CutPrefix(cond, "sandbox:")
	if !ok {
		return false, fmt.Errorf("unknown condition %q", cond)
	}
	check, ok := features[feature]
	if !ok {
		return false, fmt.Errorf("unknown feature %q of sandboxes; there are %s", feature, strings.Join(slices.Sorted(maps.Keys(features)), ", "))
	}
	return has(check), nil
}

// features are the names of doctor's checks.
var features = map[string]string{
	"virtual-time":    "virtual clock",
	"fixed-addresses": "fixed addresses",
	"landlock":        "Landlock",
	"namespaces":      "namespaces",
	"rdtsc":           "time-stamp counter",
}

func has(name string) bool {
	for _, c := range supervisor.Doctor() {
		if c.Name == name {
			return c.OK
		}
	}
	return false
}
