//go:build linux

package supervisor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/sandtest/go-sandtest/det"
	"github.com/sandtest/go-sandtest/supervisor/internal/tracee"
	"github.com/sandtest/go-sandtest/vdso"
	"golang.org/x/sys/unix"
)

// imageLoader prepares every program at its start.
//
// Source: what the kernel itself puts into a new program: the vDSO, whose
// functions read the host's clock and CPU, and 16 random bytes at AT_RANDOM
// (glibc's stack guard, Go's map seeds). Eliminated: the vDSO's symbols lead to
// functions that read the sandbox's clock page; where that can't be done the
// vDSO is hidden, and reads become system calls. AT_RANDOM is drawn from a
// stream named by lineage and number of execs.
func imageLoader(s *Sandbox) feature {
	return feature{
		name: "image",
		// The program is made to call this to be given the clock page; nobody else
		// gets anything from it.
		calls: []call{{nr: pageCall, notify: s.handOutPage}},
		load: func(im *image) error {
			base, _ := im.auxv.Get(tracee.ATBase)
			im.th.proc.loader.Store(base)
			if err := im.placeClock(); err != nil {
				return err
			}
			return im.pinATRandom()
		},
		close: s.page.close,
	}
}

// pageCall is a system-call number that no kernel has.
const pageCall = 0x3fff5a01

func (s *Sandbox) handOutPage(c *Call) Answer {
	if !c.thread.arming.Load() {
		return Errno(unix.ENOSYS)
	}
	if c.Arg(0) == rulesetWanted {
		return s.ahead.handOutRuleset()
	}
	fd, err := unix.FcntlInt(uintptr(s.page.reader), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return Fatal(fmt.Errorf("duplicate the clock page: %w", err))
	}
	return InjectFD(fd, true)
}

// placeClock maps the region and points the vDSO's symbols at it.
func (im *image) placeClock() error {
	th, info, plan := im.th, &im.vdso, &im.t.s.vdso
	th.proc.region.Store(0)
	th.proc.asks.begin()
	calls := im.sys.List()
	if im.listener >= 0 {
		calls.Add("close the listener", unix.SYS_CLOSE, uint64(im.listener))
		for _, f := range im.t.s.table.features {
			if f.join != nil {
				f.join(calls)
			}
		}
	}
	if info.img == nil {
		th.proc.vdso.Store(0)
		if err := calls.Run(); err != nil {
			return err
		}
		return im.withoutPage()
	}
	slots := vdso.SlotFunctions(plan.kind)
	names := im.t.s.dcache.wanted(th.proc)
	region, err := im.mapRegion(calls, names)
	if (errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENOMEM)) && im.listener < 0 {
		// The program has no descriptor left to be given the page by, or may have no more
		// memory.
		th.proc.vdso.Store(0)
		return im.withoutPage()
	}
	if err != nil {
		return err
	}
	if err := im.fillSlots(region+vdso.SlotOffset, slots); err != nil {
		return err
	}
	offset, patch, err := info.img.Redirect(info.base, region, plan.entries, plan.keep...)
	if err != nil {
		return err
	}
	if err := im.sys.Poke(info.base+offset, patch); err != nil {
		return fmt.Errorf("patch the vDSO: %w", err)
	}
	th.proc.vdso.Store(info.base)
	th.proc.region.Store(region)
	th.proc.asks.mapped.Store(names)
	return nil
}

// withoutPage prepares a program that doesn't get the region.
func (im *image) withoutPage() error {
	if err := im.havePaths(nil, nil); err != nil {
		return err
	}
	return im.auxv.HideVDSO(im.th.tid, im.sys.SP())
}

// mapRegion maps pages of the program's own, and before them the clock page and its code, which
// are everybody's; with names, so is what lies before those. It returns where the region is.
func (im *image) mapRegion(calls *tracee.List, names bool) (uint64, error) {
	shared, from, before := uint64(vdso.SharedSize), uint64(vdso.NamesSize), uint64(0)
	if names {
		shared, from, before = vdso.NamesSize+vdso.SharedSize, 0, vdso.NamesSize
	}
	const own = vdso.OwnSize + vdso.ExecSize
	fd := calls.Add("be given the clock page", pageCall)
	region := calls.Add("map the slot pages", unix.SYS_MMAP, 0, shared+own, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_NORESERVE, 0, from)
	page := calls.Add("map the clock page", unix.SYS_MMAP, 0, shared, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_SHARED|unix.MAP_FIXED, 0, from)
	fd.Feed(region, 4)
	fd.Feed(page, 4)
	var mapped, sealed *tracee.Pending
	if im.t.s.dcache.mayOpen(im.th.proc) {
		mapped, sealed = im.mapPaths(calls, fd)
	}
	fd.Feed(calls.Add("close the clock page", unix.SYS_CLOSE), 0)
	region.Feed(page, 0)
	if sealWorks() {
		region.Feed(calls.Add("seal the clock page", sysMseal, 0, shared, 0, 0, 0, callMark), 0)
	}
	restore := im.withoutLimit()
	err := calls.Run()
	restore()
	if err != nil {
		return 0, err
	}
	return region.Result() + before, im.havePaths(mapped, sealed)
}

// sysMseal is mseal(2) (Linux 6.10): the same number on all machines.
const sysMseal = 462

// sealWorks reports whether memory can be sealed, so that nobody maps other over it.
var sealWorks = sync.OnceValue(func() bool {
	_, _, errno := unix.RawSyscall(sysMseal, 0, 0, 0) // nothing
	return errno == 0
})

// fillSlots gives the code the addresses of the vDSO's own functions.
func (im *image) fillSlots(at uint64, functions []string) error {
	if len(functions) == 0 {
		return nil
	}
	var page []byte
	for _, fn := range functions {
		value, ok := im.vdso.img.Lookup(fn)
		if !ok {
			return fmt.Errorf("the vDSO has no %s", fn)
		}
		page = binary.LittleEndian.AppendUint64(page, im.vdso.base+value)
	}
	if _, err := tracee.WriteMem(im.th.tid, at, page); err != nil {
		return fmt.Errorf("fill the slot page: %w", err)
	}
	return nil
}

func (im *image) pinATRandom() error {
	at, ok := im.auxv.Get(tracee.ATRandom)
	if !ok {
		return nil
	}
	p := im.th.proc
	var b [16]byte
	det.NewStream(im.t.s.cfg.Seed, det.ATRandom, p.Lineage, p.execs-1).Read(b[:])
	if _, err := tracee.WriteMem(im.th.tid, at, b[:]); err != nil {
		return fmt.Errorf("write AT_RANDOM: %w", err)
	}
	return nil
}

// A vdsoInfo says what vDSO a program has.
type vdsoInfo struct {
	base uint64      // 0 if none
	img  *vdso.Image // nil if it can't be patched
	text uint64      // where its functions begin, or 0
}

// vdsoPlan is what a sandbox does to the vDSO.
type vdsoPlan struct {
	kind      vdso.Kind
	reference *vdso.Image // what this process has, and nearly always the command
	entries   map[string]int
	keep      []string
	complete  bool   // every function of the reference has a replacement
	raw       []byte // the tracer's scratch
}

// replaces reports whether every function of an image is replaced or kept.
func (v *vdsoPlan) replaces(img *vdso.Image) bool {
	if img == v.reference && v.complete {
		return true
	}
	_, _, err := img.Redirect(0, 0, v.entries, v.keep...)
	v.complete = err == nil && img == v.reference
	return err == nil
}

// find identifies a program's vDSO. Its image is compared with the reference
// and parsed anew if it differs, never assumed.
func (v *vdsoPlan) find(tid int, auxv tracee.Auxv) (info vdsoInfo) {
	base, ok := auxv.Get(tracee.ATSysinfoPtr)
	if !ok || base == 0 {
		return info
	}
	info.base = base
	if v.reference == nil {
		return info
	}
	if len(v.raw) < len(v.reference.Raw) {
		v.raw = make([]byte, len(v.reference.Raw))
	}
	if tracee.ReadMem(tid, base, v.raw) != nil {
		return info
	}
	info.img = v.reference
	if !bytes.Equal(v.raw, v.reference.Raw) {
		img, err := vdso.Parse(bytes.Clone(v.raw))
		if err != nil {
			return info
		}
		info.img = img
	}
	// An image with a function that isn't known is left alone, and hidden.
	if !v.replaces(info.img) {
		info.img = nil
		return info
	}
	if off, size := info.img.Text(); size >= tracee.TextSize {
		info.text = base + off
	}
	return info
}
