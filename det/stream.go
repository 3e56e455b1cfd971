package det

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
)

// A Source names what a random stream is for, so that two uses by one process
// never share bytes.
type Source string

// The sources of a sandbox.
const (
	// GetRandom is what getrandom(2) returns; its counter is always 0.
	GetRandom Source = "getrandom"
	// ATRandom is the 16 bytes at AT_RANDOM (getauxval(3)); the counter is the
	// number of times the process has executed a program, from 0.
	ATRandom Source = "at_random"
	// URandom is a descriptor of /dev/urandom or /dev/random; the counter is the
	// number of such descriptors the process opened before.
	URandom Source = "urandom"
	// UUID is a read of /proc/sys/kernel/random/uuid, counted in the same way.
	UUID Source = "uuid"
	// Fault decides whether a fault hits a call: the counter is the number of the call
	// and of the fault.
	Fault Source = "fault"
	// PowerLoss decides what is left of what was written; it is drawn with the lineage [Root].
	PowerLoss Source = "power_loss"
	// BootID is /proc/sys/kernel/random/boot_id, one for the whole sandbox: it is
	// drawn with the lineage [Root].
	BootID Source = "boot_id"
	// MachineID is /etc/machine-id; it, too, is drawn with the lineage [Root].
	MachineID Source = "machine_id"
)

// NewStream returns the ChaCha8 stream of one source of one process: a function
// of its arguments alone. The key is SHA-256 over seed, source, lineage and
// counter, each length-prefixed or of fixed size so that no two names collide.
// A stream is not safe for concurrent use.
func NewStream(seed uint64, src Source, who Lineage, counter uint64) *rand.ChaCha8 {
	b := make([]byte, 0, 64)
	b = append(b, "sandtest stream 1\x00"...)
	b = binary.BigEndian.AppendUint64(b, seed)
	b = binary.BigEndian.AppendUint64(b, counter)
	b = binary.BigEndian.AppendUint64(b, uint64(len(src)))
	b = append(b, src...)
	b = append(b, who...)
	return rand.NewChaCha8(sha256.Sum256(b))
}

// NewUUID draws a version 4 UUID (RFC 9562, section 5.4) in its text form.
func NewUUID(stream *rand.ChaCha8) string {
	var u [16]byte
	stream.Read(u[:])
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	const hexDigits = "0123456789abcdef"
	out := make([]byte, 0, 36)
	for i, b := range u {
		switch i {
		case 4, 6, 8, 10:
			out = append(out, '-')
		}
		out = append(out, hexDigits[b>>4], hexDigits[b&15])
	}
	return string(out)
}
