package canon

const (
	// MaxInt is the largest integer that a payload may carry, 2^53-1: the
	// largest that every JSON implementation reads exactly (RFC 8785, section
	// 3.2.2.3, and RFC 7493, section 2.2).
	MaxInt = 1<<53 - 1

	// MaxDepth is how many arrays and objects may be open at once. It bounds
	// the recursion of every function here, on foreign bytes and on cyclic Go
	// values alike.
	MaxDepth = 32

	// maxPathKey is how many bytes of a key are repeated in an error's path:
	// the key may be hostile, and the path ends in answers and logs.
	maxPathKey = 64

	// maxShapes is how many Go types are remembered. The project has a few
	// hundred; beyond the limit types still work and are analysed each time.
	maxShapes = 4096
)
