//go:build linux

package cow

// A sight is where a file of the host was seen first, and the number it got
// there.
type sight struct {
	number uint64
	dir    *Inode
	name   string
	told   bool // somebody who was told of it may have it open to read, see File.Outdated
	names  []toldName

	through bool // it has a name in a directory that shows the host itself
}

// A toldName is one by which a file with several was told of.
type toldName struct {
	dir  *Inode
	name string
}

// sights are the files of the host that were seen. Those of a directory often have numbers
// that follow each other, so some lie together. The zero value has none.
type sights struct {
	rows map[fileID]*sightRow // by their number without its lowest bits
	last fileID
	row  *sightRow // that of last
}

type sightRow [sightsInRow]*sight

const sightsInRow = 16

// at returns the row in which a file is, and where; nil if there is none.
func (s *sights) at(id fileID) (row *sightRow, i int) {
	i = int(id.ino % sightsInRow)
	id.ino /= sightsInRow
	if s.row == nil || s.last != id {
		s.last, s.row = id, s.rows[id]
	}
	return s.row, i
}

// get returns nil for a file that wasn't seen.
func (s *sights) get(id fileID) *sight {
	if row, i := s.at(id); row != nil {
		return row[i]
	}
	return nil
}

func (s *sights) set(id fileID, where *sight) {
	row, i := s.at(id)
	if row == nil {
		row = new(sightRow)
		if s.rows == nil {
			s.rows = map[fileID]*sightRow{}
		}
		s.rows[s.last], s.row = row, row
	}
	row[i] = where
}

func (s *sights) forget(id fileID) {
	if row, i := s.at(id); row != nil {
		row[i] = nil
	}
}

// forgetIf forgets those for which f returns true.
func (s *sights) forgetIf(f func(*sight) bool) {
	for _, row := range s.rows {
		for i, where := range row {
			if where != nil && f(where) {
				row[i] = nil
			}
		}
	}
}
