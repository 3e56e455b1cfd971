package sandtest

import (
	"slices"
	"strings"

	"github.com/sandtest/go-sandtest/internal/compare"
)

// A rule is what usually helps against a difference that a variation causes.
type rule struct {
	variation string
	applies   func(name string, d compare.Difference) bool // nil for any
	hint      string
}

// within reports whether a difference is in an archive of a kind.
func within(suffixes ...string) func(string, compare.Difference) bool {
	return func(name string, d compare.Difference) bool {
		return slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(name, s) })
	}
}

// place selects differences of a kind.
func place(kind string, more func(string, compare.Difference) bool) func(string, compare.Difference) bool {
	return func(name string, d compare.Difference) bool {
		return d.Kind() == kind && (more == nil || more(name, d))
	}
}

func inGzip(_ string, d compare.Difference) bool { return slices.Contains(d.Where, "gzip header") }

func isPython(name string, _ compare.Difference) bool { return strings.HasSuffix(name, ".pyc") }

func inSection(_ string, d compare.Difference) bool {
	return len(d.Where) > 0 && strings.HasPrefix(d.Where[0], "section ")
}

// inImage selects the times of PNG images, as chunks of their own or in texts.
func inImage(_ string, d compare.Difference) bool {
	return slices.ContainsFunc(d.Where, func(s string) bool { return s == "chunk tIME" || strings.HasPrefix(s, "chunk tEXt date:") })
}

var (
	tarball = within(".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst")
	library = within(".a", ".deb")
	zipped  = within(".zip", ".jar", ".whl")
)

// rules are looked through in this order.
var rules = []rule{
	{"time", place(compare.Time, inGzip), "gzip -n leaves the time out"},
	{"mtime", place(compare.Time, inGzip), "gzip -n leaves the time out"},
	{"time", place(compare.Time, library), "ar D (deterministic mode) leaves times and owners out"},
	{"time", place(compare.Time, tarball), "tar --sort=name --mtime=@$SOURCE_DATE_EPOCH --owner=0 --group=0 --numeric-owner"},
	{"mtime", place(compare.Time, tarball), "tar --sort=name --mtime=@$SOURCE_DATE_EPOCH --owner=0 --group=0 --numeric-owner"},
	{"time", place(compare.Time, zipped), "give the files a fixed time before they are packed (touch -d @$SOURCE_DATE_EPOCH), or let the tool read SOURCE_DATE_EPOCH"},
	{"mtime", place(compare.Time, zipped), "give the files a fixed time before they are packed (touch -d @$SOURCE_DATE_EPOCH)"},
	{"time", isPython, "compile with SOURCE_DATE_EPOCH set, or --invalidation-mode=unchecked-hash"},
	{"mtime", isPython, "compile with SOURCE_DATE_EPOCH set, or --invalidation-mode=unchecked-hash"},
	{"time", inImage, "take the time from SOURCE_DATE_EPOCH, or leave it out of images (ImageMagick: -define png:exclude-chunks=date,time)"},
	{"mtime", inImage, "leave times out of images (ImageMagick: -define png:exclude-chunks=date,time)"},
	{"time", nil, "take the time from SOURCE_DATE_EPOCH instead of the clock (date, __DATE__, time.Now)"},
	{"mtime", nil, "don't put the times of input files into the output, or cut them at SOURCE_DATE_EPOCH"},
	{"fileorder", place(compare.Order, tarball), "tar --sort=name"},
	{"fileorder", nil, "sort what a directory is listed as (find | LC_ALL=C sort, sorted(os.listdir()), $(sort $(wildcard ...)))"},
	{"timezone", nil, "set TZ=UTC, or print times in UTC"},
	{"locale", nil, "set LC_ALL=C, above all for sort"},
	{"umask", nil, "set the modes of what is made (install -m, chmod, tar --mode)"},
	{"path", inSection, "-ffile-prefix-map=$PWD=. for C, -trimpath for Go"},
	{"path", nil, "use paths relative to the build's directory (-ffile-prefix-map=$PWD=. for C, -trimpath for Go)"},
	{"seed", nil, "no random names, keys or hash orders in the output (PYTHONHASHSEED=0, -frandom-seed)"},
	{"aslr", nil, "no addresses in the output or in the order of it"},
	{"hostname", nil, "leave the machine's name out"},
	{"kernel", nil, "leave the kernel's release out (uname -r)"},
	{"cpus", nil, "the output must not depend on how many jobs run (nproc, make -j)"},
	{"memory", nil, "the output must not depend on how much memory there is"},
	{"pids", nil, "leave process ids out ($$, names of temporary files)"},
	{"environment", nil, "leave HOME, USER and PATH out, and pass on only the variables that are needed (env -i)"},
	{"inode", nil, "no inode numbers in the output or in the order of it (sort by name)"},
	{"schedule", nil, "what runs at the same time must not write to the same file"},
	{"network", nil, "fetch what is needed before the build"},
	{Race, nil, "process ids in the output (mktemp, $$), or an order that depends on which of several processes is first"},
}

// hint returns what usually helps.
func hint(variation, name string, list []compare.Difference) string {
	for _, r := range rules {
		if r.variation != variation {
			continue
		}
		if r.applies == nil || slices.ContainsFunc(list, func(d compare.Difference) bool { return r.applies(name, d) }) {
			return r.hint
		}
	}
	return ""
}
