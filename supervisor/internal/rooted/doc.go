// Package rooted binds Unix sockets within a root of their own, so that the name which the
// kernel notes for them, and tells whoever asks, is that of another tree of files than the
// process's (unix(7): a path is kept as it was given to bind(2)).
package rooted
