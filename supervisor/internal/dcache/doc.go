// Package dcache holds what the names of a tree mean, in memory that the programs of a
// sandbox can read, and the code by which they look there themselves instead of asking the
// kernel, as they read the clock. It is named after what it is to the kernel (fs/dcache.c).
//
// A name is an entry of a hash table, by its directory's and itself. Entries are made by a
// single writer under a lock of its own and read by programs without one: what an entry says
// never changes, but for its flags, which say how much of it still holds. A program that
// finds nothing, or an entry that doesn't hold, makes its system call as ever. An answer is
// one that the call could have got while it was under way: whoever changes the tree takes
// back what the table says before.
//
// The code stands in for system calls about paths: stat(2) and its kin, access(2),
// readlink(2), an open(2) that finds nothing, or something to read, and an execve(2) that finds
// nothing, as it does in each directory of PATH but one; and for those about an open directory
// that ask for its attributes, or for more names when there are none. It follows a path through
// directories that whoever asks may search, and leaves to the kernel whatever it doesn't know. It
// makes few calls of its own. A path that begins at a descriptor begins at the directory whose
// mark its position (lseek(2)) says, which was set when it was opened. What regular file a
// descriptor is the kernel tells (fstat(2)), in memory that has room for no more than what tells
// files apart. And what may be opened is opened by a path of the host that lies in the table, in
// the way that lies there (openat2(2)), which a filter can tell from all other opens by where
// these are.
//
// It is reached from where a program makes such calls, which a supervisor changes into jumps
// in the program's own copy ([Table.Site]).
//
// It supports Linux on amd64; elsewhere [New] returns an error.
package dcache
