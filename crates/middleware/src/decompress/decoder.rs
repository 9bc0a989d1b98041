//! The decoders, piece by piece.

use compu::decoder::{BrotliC, DecodeStatus, Decoder as _};
use flate2::{Decompress as Inflater, FlushDecompress, Status};
use hearth_http_core::Coding;
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

/// The content is not what its coding says.
#[derive(Debug)]
pub(super) struct Malformed;

/// A decoder that keeps its state between pieces.
pub(super) struct Decoder {
    of: Of,
    /// The coding has come to an end; gzip and zstd may begin again behind it.
    is_at_end: bool,
}

enum Of {
    Brotli(Box<BrotliC>),
    Deflate(Inflater),
    Gzip(Inflater),
    Zstd(Box<ZstdDecoder<'static>>),
}

impl Decoder {
    /// `None` where there is no memory for it, and for identity.
    pub(super) fn new(coding: Coding) -> Option<Self> {
        let of = match coding {
            Coding::Brotli => Of::Brotli(Box::new(BrotliC::new()?)),
            Coding::Deflate => Of::Deflate(Inflater::new(true)),
            Coding::Gzip => Of::Gzip(Inflater::new_gzip(GZIP_WINDOW_BITS)),
            Coding::Zstd => {
                let mut decoder = ZstdDecoder::new().ok()?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).ok()?;
                Of::Zstd(Box::new(decoder))
            }
            Coding::Identity => return None,
        };
        Some(Self { of, is_at_end: false })
    }

    /// Decodes into the spare room of `output`, which must be empty; answers how much of `input` it took.
    pub(super) fn run(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<usize, Malformed> {
        if self.is_at_end {
            if input.is_empty() {
                return Ok(0);
            }
            match &mut self.of {
                Of::Brotli(_) | Of::Deflate(_) => return Err(Malformed),
                // RFC 1952 §2.2: a file is one member or several.
                Of::Gzip(inflater) => *inflater = Inflater::new_gzip(GZIP_WINDOW_BITS),
                Of::Zstd(_) => {}
            }
            self.is_at_end = false;
        }
        match &mut self.of {
            Of::Brotli(decoder) => {
                let result = decoder.decode_vec(input, output);
                let status = result.status.map_err(|_| Malformed)?;
                self.is_at_end = status == DecodeStatus::Finished;
                Ok(input.len() - result.input_remain)
            }
            Of::Deflate(inflater) | Of::Gzip(inflater) => {
                let before = inflater.total_in();
                let status = inflater
                    .decompress_vec(input, output, FlushDecompress::None)
                    .map_err(|_| Malformed)?;
                self.is_at_end = status == Status::StreamEnd;
                usize::try_from(inflater.total_in() - before).map_err(|_| Malformed)
            }
            Of::Zstd(decoder) => {
                let mut input = InBuffer::around(input);
                let mut space = OutBuffer::around(output);
                let left = decoder.run(&mut input, &mut space).map_err(|_| Malformed)?;
                self.is_at_end = left == 0;
                Ok(input.pos())
            }
        }
    }

    /// Whether the content may end here.
    pub(super) fn is_at_end(&self) -> bool {
        self.is_at_end
    }
}

const GZIP_WINDOW_BITS: u8 = 15;
/// RFC 9659: what a decoder of the content coding must accept, and no more.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
