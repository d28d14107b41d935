package detector

import "os"

// lowest are left to the rest of the process: more than it opens.
const lowest = 512

// early runs open while the lower file descriptors are taken: what it opens is then among
// the first that the kernel closes when this process is killed. It begins with the highest
// (fs/file.c, close_files, makes a list of them that kernel/task_work.c takes from its
// end), and what a node has below may keep it for 100 ms: each packet socket waits for the
// whole machine (net/packet/af_packet.c, packet_release). So long this host would look dead.
func early[T any](open func() (T, error)) (T, error) {
	var taken []*os.File
	free := func() {
		for _, f := range taken {
			f.Close()
		}
		taken = nil
	}
	defer free()
	for len(taken) < lowest {
		f, err := os.Open(os.DevNull)
		if err != nil { // this process may not have so many
			free()
			break
		}
		taken = append(taken, f)
	}
	return open()
}
