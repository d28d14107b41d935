package gate

import "testing"

func TestProgramLoads(t *testing.T) {
	p, err := load()
	if err != nil {
		t.Fatal(err)
	}
	p.shared().deadline.Store(1)
	ret, _, err := p.prog.Test(make([]byte, 64))
	if err != nil {
		t.Fatal(err)
	}
	if s := p.shared(); ret != actShot || s.dropped.Load() != 1 || s.droppedBytes.Load() != 64 {
		t.Errorf("%d, %d packets of %d bytes", ret, s.dropped.Load(), s.droppedBytes.Load())
	}
	if err := p.close(); err != nil {
		t.Error(err)
	}
}
