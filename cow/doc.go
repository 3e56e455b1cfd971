// Package cow is a copy-on-write file tree: programs read what a host directory
// holds, and what they write stays beside it, as a value that can be listed.
//
// # Model
//
// A [Tree] shows directories of the host (the lower layer) at places of its own
// (mounts). Whatever is created, changed, moved or removed in it is kept apart
// (the upper layer); the host's directories are only read. The two are merged name
// by name:
//
//   - A directory of the tree has a lower directory, or none if it was made in
//     the tree or stands where something was removed (it is opaque then).
//   - A name in it is the tree's own if the tree has an entry for it, a whiteout
//     if that entry says so, and the lower directory's otherwise.
//   - A file's bytes are the lower file's until somebody opens it for writing.
//     Then they are copied (copied up), by reflink where the file system can.
//   - Mode, owner, times and extended attributes are the tree's own once they
//     have been set. Setting them copies nothing.
//   - A directory that was moved keeps its lower directory: moving a tree of any
//     size costs nothing.
//
// The names and attributes of the upper layer live in memory, the bytes of its
// files in one flat directory, a file each, without a name that means anything.
// So nothing in it is ever half-published, and starting costs the same over any
// tree.
//
// # Metadata
//
// What the tree tells of a file is the same on every machine: inode numbers come
// from paths, device and block size are constant, sizes and link counts of
// directories too, block counts follow from sizes. Each change happens at a later
// time than the one before, if only by a nanosecond, so that the order of changes
// shows; a host's time later than the tree's start reads as the start.
//
// # Limits
//
// A descriptor of a lower file that was opened before somebody else writes to the
// file goes on reading the lower bytes, as with overlayfs. A host directory must
// not change while a tree shows it; a file that vanishes is missing, nothing
// worse. Access control lists of the host are ignored, and none can be set
// (ENOTSUP).
package cow
