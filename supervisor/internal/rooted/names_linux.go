package rooted

import (
	"os"
	"path/filepath"
	"strings"
)

// Scaffold makes directories in an empty directory root such that a path of a Unix socket
// leads to a file there, and nowhere else: none of its names is a symbolic link. It returns
// that file, and the working directory for a path that is relative, as the root has it.
//
// ok is false for a path that doesn't end in a name.
func Scaffold(root, path string) (file, dir string, ok bool, err error) {
	names := strings.Split(path, "/")
	last := names[len(names)-1]
	if last == "" || last == "." || last == ".." {
		return "", "", false, nil
	}
	var at []string
	if !strings.HasPrefix(path, "/") { // as deep as it leads upwards
		for range strings.Count(path, "..") {
			at = append(at, "d")
		}
	}
	dir = "/" + filepath.Join(at...)
	if err := os.MkdirAll(filepath.Join(root, dir), 0o777); err != nil {
		return "", "", false, err
	}
	for _, name := range names[:len(names)-1] {
		switch name {
		case "", ".":
			continue
		case "..":
			at = at[:max(len(at)-1, 0)]
			continue
		}
		at = append(at, name)
		if err := os.MkdirAll(filepath.Join(root, filepath.Join(at...)), 0o777); err != nil {
			return "", "", false, err
		}
	}
	return filepath.Join(root, filepath.Join(at...), last), dir, true, nil
}
