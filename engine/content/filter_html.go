package content

import "bytes"

// appendEscapedOnce escapes like appendHTML but leaves entities that are there
// already: "1 < 2 &amp; 3" gives "1 &lt; 2 &amp; 3".
//
// Source: HTML_ESCAPE_ONCE_REGEXP of Shopify/liquid.
func appendEscapedOnce(dst, in []byte) []byte {
	for i := 0; i < len(in); {
		if in[i] == '&' {
			if size := entitySize(in[i:]); size > 0 {
				dst = append(dst, in[i:i+size]...)
				i += size
				continue
			}
		}
		size, keep, replace := textRune(in[i:])
		switch entity := htmlEntity(in[i]); {
		case entity != "":
			dst = append(dst, entity...)
		case keep:
			dst = append(dst, in[i:i+size]...)
		case replace:
			dst = append(dst, "\uFFFD"...)
		}
		i += size
	}
	return dst
}

// entitySize gives the length of the entity at the start of in (&name; or
// &#123;), or 0.
func entitySize(in []byte) int {
	i := 1
	isPart := func(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
	if len(in) > 1 && in[1] == '#' {
		i = 2
		isPart = func(c byte) bool { return c >= '0' && c <= '9' }
	}
	first := i
	for i < len(in) && isPart(in[i]) {
		i++
	}
	if i == first || i == len(in) || in[i] != ';' {
		return 0
	}
	return i + 1
}

// appendWithoutTags leaves out scripts and styles with what they hold,
// comments, and every <…>. A < without a > stays. It is not a sanitizer: the
// result of HTML content is escaped nevertheless.
//
// Source: STRIP_HTML_BLOCKS and STRIP_HTML_TAGS of Shopify/liquid, which runs
// the two one after the other; here they are one pass.
func appendWithoutTags(dst, in []byte) []byte {
	// An opening without its end must not be searched for again: the work stays linear.
	var unclosed [4]bool
	for len(in) > 0 {
		at := bytes.IndexByte(in, '<')
		if at < 0 {
			break
		}
		dst = append(dst, in[:at]...)
		in = in[at:]
		size := 0
		for k := 0; k < len(unclosed) && size == 0; k++ {
			open, end := htmlBlock(k)
			if unclosed[k] || !bytes.HasPrefix(in, open) {
				continue
			}
			stop := bytes.Index(in[len(open):], end)
			unclosed[k] = stop < 0
			if stop >= 0 {
				size = len(open) + stop + len(end)
			}
		}
		if size == 0 {
			break
		}
		in = in[size:]
	}
	return append(dst, in...)
}

// htmlBlock gives the opening and the end of what is left out, the plain tag last.
func htmlBlock(k int) (open, end []byte) {
	switch k {
	case 0:
		return []byte("<script"), []byte("</script>")
	case 1:
		return []byte("<!--"), []byte("-->")
	case 2:
		return []byte("<style"), []byte("</style>")
	}
	return []byte("<"), []byte(">")
}

// appendWithBreaks puts <br /> before every line break, and drops a carriage
// return before it.
func appendWithBreaks(dst, in []byte) []byte {
	for {
		at := bytes.IndexByte(in, '\n')
		if at < 0 {
			return append(dst, in...)
		}
		dst = append(dst, bytes.TrimSuffix(in[:at], []byte("\r"))...)
		dst = append(dst, "<br />\n"...)
		in = in[at+1:]
	}
}
