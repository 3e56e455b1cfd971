package compare

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// Large compares two files that are too large to be looked into: where they differ, if they
// are of the same size up to where, and what stands there first. It reads them once, and
// keeps nothing of them. The error is that of reading.
func Large(a, b io.Reader) (Difference, error) {
	const block = 1 << 20
	x, y := bufio.NewReaderSize(a, block), bufio.NewReaderSize(b, block)
	d, last, at := Difference{Offset: -1}, int64(0), int64(0)
	for {
		p, errA := x.Peek(block)
		q, errB := y.Peek(block)
		if err := errors.Join(unlessEOF(errA), unlessEOF(errB)); err != nil {
			return d, err
		}
		n := min(len(p), len(q))
		if n == 0 || !bytes.Equal(p[:n], q[:n]) || len(p) != len(q) {
			first, end := differ(p, q)
			if d.Offset < 0 && end > first {
				d.Offset = at + int64(first)
				d.Text = excerpt("-", p, first, len(p)) + excerpt("+", q, first, len(q))
			}
			if end > first {
				last = at + int64(end)
			}
		}
		if n == 0 {
			rest, err := remaining(x, y)
			if rest > 0 {
				last = at + rest
			}
			if d.Length = last - d.Offset; d.Offset < 0 {
				d = Difference{}
			}
			return d, err
		}
		if _, err := x.Discard(n); err != nil {
			return d, err
		}
		if _, err := y.Discard(n); err != nil {
			return d, err
		}
		at += int64(n)
	}
}

// differ returns from where to where two blocks differ.
func differ(p, q []byte) (first, end int) {
	n := min(len(p), len(q))
	for first < n && p[first] == q[first] {
		first++
	}
	if len(p) != len(q) {
		return first, max(len(p), len(q))
	}
	for end = n; end > first && p[end-1] == q[end-1]; end-- {
	}
	return first, end
}

// remaining counts what is left of one of two readers.
func remaining(x, y io.Reader) (int64, error) {
	n, errA := io.Copy(io.Discard, x)
	m, errB := io.Copy(io.Discard, y)
	return n + m, errors.Join(errA, errB)
}

func unlessEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}
