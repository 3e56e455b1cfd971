//go:build !linux

package sandtest

import "errors"

// inRoot returns an error: there are no sandboxes here.
func inRoot(string, string) (string, error) { return "", errors.ErrUnsupported }
