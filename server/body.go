package server

import (
	"errors"
	"io"
	"strconv"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/valyala/fasthttp"

	"tact/engine"
	"tact/server/wire"
)

// maxKept is the largest buffer that goes back to the pool.
const maxKept = 256 << 10

// work is the buffers of one request. The body lives here, not in fasthttp's
// memory: nothing the engine borrows dies early.
type work struct {
	decoder  wire.Decoder
	request  engine.DecideRequest
	decision engine.Decision
	user     engine.UserDoc
	event    engine.EventDoc
	outcome  engine.OutcomeDoc
	source   bodyReader
	tag      tagUpload
	rest     [2048]byte // what is read of a body only to get past it
	body     []byte
	reply    []byte
}

var (
	errTooLarge = errors.New("the body is too large")
	errCoding   = errors.New("unsupported content encoding")
)

// readBody reads a whole body of at most limit bytes and answers itself when
// that cannot be done. The bytes belong to r.work.
func (s *Server) readBody(r *request, limit int) ([]byte, bool) {
	ctx := r.ctx
	if len(ctx.Request.Header.ContentEncoding()) > 0 {
		s.problem(ctx, wire.Problem{
			Status: 415, Code: "unsupported_encoding",
			Detail: "only bulk bodies (application/x-ndjson) may be packed",
		})
		return nil, false
	}
	if n := ctx.Request.Header.ContentLength(); n > limit {
		s.tooLarge(ctx, limit)
		return nil, false
	}
	r.work.source = bodyReader{ctx: ctx}
	body, err := readAll(&r.work.source, r.work.body[:0], limit)
	r.work.body = body
	switch {
	case errors.Is(err, errTooLarge):
		s.tooLarge(ctx, limit)
	case err != nil:
		ctx.SetConnectionClose()
		s.problem(ctx, wire.Problem{
			Status: 400, Code: wire.CodeTruncated, Detail: "the body ends too early",
		})
	}
	return body, err == nil
}

func (s *Server) tooLarge(ctx *fasthttp.RequestCtx, limit int) {
	s.problem(ctx, wire.Problem{
		Status: 413, Code: "too_large", Detail: "the body exceeds " + strconv.Itoa(limit) + " bytes",
	})
}

// readAll appends all of in to dst, and fails beyond limit bytes.
func readAll(in io.Reader, dst []byte, limit int) ([]byte, error) {
	for {
		if len(dst) == cap(dst) {
			dst = append(dst, 0)[:len(dst)]
		}
		n, err := in.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		switch {
		case len(dst) > limit:
			return dst, errTooLarge
		case errors.Is(err, io.EOF):
			return dst, nil
		case err != nil:
			return dst, err
		}
	}
}

// bodyReader reads a request's body and tells its end from a cut: fasthttp
// takes a closed connection for the end of a body of known length.
type bodyReader struct {
	ctx  *fasthttp.RequestCtx
	read int
	end  error // io.EOF, or why there is no more
}

func (b *bodyReader) Read(p []byte) (int, error) {
	if b.end != nil {
		return 0, b.end
	}
	stream := b.ctx.RequestBodyStream()
	if stream == nil {
		b.end = io.EOF
		return 0, b.end
	}
	n, err := stream.Read(p)
	b.read += n
	if errors.Is(err, io.EOF) {
		if want := b.ctx.Request.Header.ContentLength(); want >= 0 && b.read < want {
			err = io.ErrUnexpectedEOF
		}
	}
	b.end = err
	return n, err
}

// unpack gives the reader of a body's text by its Content-Encoding. Close frees
// what it holds.
func unpack(in io.Reader, coding string) (io.Reader, func(), error) {
	switch coding {
	case "", "identity":
		return in, func() {}, nil
	case "gzip":
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, nil, err
		}
		return z, func() { _ = z.Close() }, nil
	case "zstd":
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecoderMaxMemory(64<<20))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return nil, nil, errCoding
}
