package colo

// PageSize is the unit of the ram section: 4096 bytes.
const PageSize = 4096

// The ram section is a run of words: flags in the low 12 bits, the rest an offset
// (migration/ram.c, RAM_SAVE_FLAG_*).
const (
	ramVersion = 4

	ramFill     = 0x02
	ramMemSize  = 0x04
	ramPage     = 0x08
	ramEOS      = 0x10
	ramContinue = 0x20
	ramFlags    = PageSize - 1

	maxBlocks = 1024
)

// layout reads the list of blocks that starts the section.
func (r *reader) layout() {
	word := r.u64("the size of ram")
	total := word &^ ramFlags
	if r.err == nil && (word&ramFlags != ramMemSize || total == 0) {
		r.wrong("ram word %#x, expected the size of ram", word)
	}
	r.blocks, r.index = []Block{}, map[string]int{}
	for sum := uint64(0); sum < total && r.err == nil; {
		b := Block{Name: r.name("a ram block's name"), Size: r.u64("a ram block's size")}
		r.addBlock(b, total-sum)
		sum += b.Size
	}
	r.budget = ^uint64(0) // the first copy takes as many passes as it takes
	if r.err == nil {
		r.fail(r.sink.Layout(r.config, r.blocks))
	}
}

func (r *reader) addBlock(b Block, left uint64) {
	_, twice := r.index[b.Name]
	switch {
	case r.err != nil:
	case b.Name == "" || twice:
		r.wrong("ram block %q, expected a name not used yet", b.Name)
	case b.Size == 0 || b.Size%PageSize != 0 || b.Size > left:
		r.wrong("ram block %q of %d bytes, expected whole pages and at most %d", b.Name, b.Size, left)
	case len(r.blocks) == maxBlocks:
		r.wrong("more than %d ram blocks", maxBlocks)
	default:
		r.index[b.Name] = len(r.blocks)
		r.blocks = append(r.blocks, b)
	}
}

// ramWords reads words until the end of this run of pages.
func (r *reader) ramWords() {
	for r.err == nil {
		word := r.u64("a ram word")
		if r.err != nil {
			return
		}
		switch flags := word & ramFlags; flags &^ ramContinue {
		case ramEOS:
			return
		case ramPage, ramFill:
			r.page(word&^ramFlags, flags)
		default:
			r.wrong("ram flags %#x, expected a page (%#x), a fill (%#x) or the end (%#x)", flags, ramPage, ramFill, ramEOS)
		}
	}
}

func (r *reader) page(offset, flags uint64) {
	if flags&ramContinue == 0 {
		r.pageBlock()
	}
	switch {
	case r.err != nil:
		return
	case r.block < 0:
		r.wrong("page at %#x of the same block as the last one, but there was none", offset)
		return
	case offset > r.blocks[r.block].Size-PageSize:
		b := r.blocks[r.block]
		r.wrong("page at %#x of block %q, which has %#x bytes", offset, b.Name, b.Size)
		return
	case r.budget == 0:
		r.wrong("more pages in a checkpoint than twice the guest has")
		return
	}
	r.budget--
	if flags&ramFill != 0 {
		if v := r.u8("a fill's value"); r.err == nil {
			r.fail(r.sink.Fill(r.block, offset, v))
		}
	} else if data := r.take(PageSize, "a page"); r.err == nil {
		r.fail(r.sink.Page(r.block, offset, data))
	}
}

// pageBlock reads the name of a page's block.
func (r *reader) pageBlock() {
	name := r.take(int(r.u8("a page's block")), "a page's block")
	if r.err != nil {
		return
	}
	i, ok := r.index[string(name)] // no copy is made of it here
	if !ok {
		r.wrong("page of block %q, which the guest does not have", name)
		return
	}
	r.block = i
}
