//! The encoders: at once, from memory to memory, or piece by piece.

use std::{cell::RefCell, fs::File, io};

use compu::{
    EncodeOp, EncodeStatus, Encoder as _,
    encoder::{BrotliC, BrotliOptions, BrotliQuality},
};
use flate2::{Compress as Deflater, Compression, FlushCompress, Status};
use hearth_http_core::Coding;
use libdeflater::{CompressionLvl, Compressor as OneGoDeflater};
use zstd::{
    bulk::Compressor as OneGoZstd,
    stream::raw::{CParameter, Encoder as ZstdEncoder, InBuffer, Operation, OutBuffer},
};

/// How hard each encoder tries. More is smaller and slower.
///
/// The defaults are where speed is bought with little size: on JSON and HTML of 100 KB they give what gzip -5
/// gives, in a third of its time or less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Levels {
    /// 0 to 11. Default 3.
    pub brotli: u8,
    /// For gzip and deflate, 1 to 9. Default 3.
    pub deflate: u8,
    /// 1 to 19. Default 3.
    pub zstd: u8,
}

impl Default for Levels {
    fn default() -> Self {
        Self { brotli: 3, deflate: 3, zstd: 3 }
    }
}

impl Levels {
    fn brotli_options(self) -> BrotliOptions {
        let quality = QUALITIES.get(usize::from(self.brotli)).copied();
        BrotliOptions::new().quality(quality.unwrap_or(BrotliQuality::Q11))
    }

    fn deflate_level(self) -> u8 {
        self.deflate.clamp(1, 9)
    }

    fn zstd_level(self) -> i32 {
        i32::from(self.zstd.clamp(1, 19))
    }
}

/// The encoder failed: memory ran out, or it has a bug.
#[derive(Debug, thiserror::Error)]
#[error("the encoder for {0} failed")]
pub(crate) struct EncodeError(&'static str);

/// Encodes `content` with an encoder that this thread keeps; `None` where the result is not smaller.
pub(crate) fn at_once(coding: Coding, levels: Levels, content: &[u8]) -> Option<Vec<u8>> {
    THREAD.with_borrow_mut(|thread| thread.desk.encode(coding, levels, content))
}

/// Encodes a part of a file likewise.
///
/// # Errors
/// The file cannot be read, or is shorter than promised.
pub(crate) fn file_at_once(
    coding: Coding,
    levels: Levels,
    file: &File,
    offset: u64,
    len: u64,
) -> io::Result<Option<Vec<u8>>> {
    THREAD.with_borrow_mut(|thread| {
        thread.content.resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        read_exact_at(file, &mut thread.content, offset)?;
        Ok(thread.desk.encode(coding, levels, &thread.content))
    })
}

#[cfg(unix)]
fn read_exact_at(file: &File, content: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, content, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut content: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !content.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, content, offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        content = content.split_at_mut(read).1;
        offset += read as u64;
    }
    Ok(())
}

thread_local! {
    static THREAD: RefCell<Thread> = RefCell::default();
}

#[derive(Default)]
struct Thread {
    /// Where a file is read to.
    content: Vec<u8>,
    desk: Desk,
}

/// Encoders and the memory that they write to: made once, because making one costs as much as using it on
/// a small response.
#[derive(Default)]
struct Desk {
    deflater: Option<(u8, OneGoDeflater)>,
    zstd: Option<(i32, OneGoZstd<'static>)>,
    output: Vec<u8>,
}

impl Desk {
    fn encode(&mut self, coding: Coding, levels: Levels, content: &[u8]) -> Option<Vec<u8>> {
        let len = match coding {
            Coding::Brotli => self.brotli(levels, content)?,
            Coding::Deflate | Coding::Gzip => self.deflate(coding, levels, content)?,
            Coding::Zstd => self.zstd(levels, content)?,
            Coding::Identity => return None,
        };
        let encoded = self.output.get(..len)?;
        (len < content.len()).then(|| encoded.to_vec())
    }

    fn deflate(&mut self, coding: Coding, levels: Levels, content: &[u8]) -> Option<usize> {
        let level = levels.deflate_level();
        if self.deflater.as_ref().is_none_or(|(known, _)| *known != level) {
            let parsed = CompressionLvl::new(i32::from(level)).ok()?;
            self.deflater = Some((level, OneGoDeflater::new(parsed)));
        }
        let (_, deflater) = self.deflater.as_mut()?;
        let is_gzip = coding == Coding::Gzip;
        let bound = if is_gzip {
            deflater.gzip_compress_bound(content.len())
        } else {
            deflater.zlib_compress_bound(content.len())
        };
        // Only ever grown, so that no memory is cleared twice.
        if self.output.len() < bound {
            self.output.resize(bound, 0);
        }
        if is_gzip {
            deflater.gzip_compress(content, &mut self.output).ok()
        } else {
            deflater.zlib_compress(content, &mut self.output).ok()
        }
    }

    fn zstd(&mut self, levels: Levels, content: &[u8]) -> Option<usize> {
        let level = levels.zstd_level();
        if self.zstd.as_ref().is_none_or(|(known, _)| *known != level) {
            self.zstd = Some((level, OneGoZstd::new(level).ok()?));
        }
        let (_, zstd) = self.zstd.as_mut()?;
        let bound = zstd::zstd_safe::compress_bound(content.len());
        if self.output.len() < bound {
            self.output.resize(bound, 0);
        }
        zstd.compress_to_buffer(content, self.output.as_mut_slice()).ok()
    }

    fn brotli(&mut self, levels: Levels, content: &[u8]) -> Option<usize> {
        // Its state cannot be used again; what it would not make smaller does not fit, and is given up.
        let mut encoder = BrotliC::new(levels.brotli_options())?;
        if self.output.len() < content.len() {
            self.output.resize(content.len(), 0);
        }
        let space = self.output.get_mut(..content.len())?;
        let result = encoder.encode(content, space, EncodeOp::Finish);
        (result.status == EncodeStatus::Finished).then(|| content.len() - result.output_remain)
    }
}

/// What is to happen after a piece of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// More comes.
    Continue,
    /// Everything so far must become readable.
    Flush,
    /// That was all.
    Finish,
}

/// An encoder that keeps its state between pieces.
pub(crate) enum Encoder {
    Brotli(Box<BrotliC>),
    Deflate(Deflater),
    Zstd(Box<ZstdEncoder<'static>>),
}

impl Encoder {
    pub(crate) fn new(coding: Coding, levels: Levels) -> Option<Self> {
        let level = Compression::new(u32::from(levels.deflate_level()));
        Some(match coding {
            Coding::Brotli => Self::Brotli(Box::new(BrotliC::new(levels.brotli_options())?)),
            Coding::Deflate => Self::Deflate(Deflater::new(level, true)),
            Coding::Gzip => Self::Deflate(Deflater::new_gzip(level, 15)),
            Coding::Zstd => {
                let mut encoder = ZstdEncoder::new(levels.zstd_level()).ok()?;
                encoder.set_parameter(CParameter::WindowLog(ZSTD_WINDOW_LOG)).ok()?;
                Self::Zstd(Box::new(encoder))
            }
            Coding::Identity => return None,
        })
    }

    /// Takes in all of `input` and appends to `output` what comes of it.
    pub(crate) fn run(
        &mut self,
        input: &[u8],
        after: After,
        output: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        match self {
            Self::Brotli(encoder) => run_brotli(encoder, input, after, output),
            Self::Deflate(encoder) => run_deflate(encoder, input, after, output),
            Self::Zstd(encoder) => {
                run_zstd(encoder, input, after, output).map_err(|_| EncodeError("zstd"))
            }
        }
    }
}

fn run_brotli(
    encoder: &mut BrotliC,
    mut input: &[u8],
    after: After,
    output: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let operation = match after {
        After::Continue => EncodeOp::Process,
        After::Flush => EncodeOp::Flush,
        After::Finish => EncodeOp::Finish,
    };
    loop {
        output.reserve(OUTPUT_STEP);
        let result = encoder.encode_vec(input, output, operation);
        input = input.get(input.len() - result.input_remain..).unwrap_or_default();
        match result.status {
            EncodeStatus::Error => return Err(EncodeError("brotli")),
            EncodeStatus::Finished => return Ok(()),
            EncodeStatus::Continue if input.is_empty() && after != After::Finish => return Ok(()),
            EncodeStatus::Continue | EncodeStatus::NeedOutput => {}
        }
    }
}

fn run_deflate(
    encoder: &mut Deflater,
    mut input: &[u8],
    after: After,
    output: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let flush = match after {
        After::Continue => FlushCompress::None,
        After::Flush => FlushCompress::Sync,
        After::Finish => FlushCompress::Finish,
    };
    loop {
        output.reserve(OUTPUT_STEP);
        let before = encoder.total_in();
        let status = encoder
            .compress_vec(input, output, flush)
            .map_err(|_| EncodeError("gzip or deflate"))?;
        let taken = usize::try_from(encoder.total_in() - before).unwrap_or(input.len());
        input = input.get(taken..).unwrap_or_default();
        // Space that is left over means that nothing more was to be written.
        let has_written_all = output.len() < output.capacity();
        match after {
            After::Finish if status == Status::StreamEnd => return Ok(()),
            After::Continue | After::Flush if input.is_empty() && has_written_all => return Ok(()),
            _ => {}
        }
    }
}

fn run_zstd(
    encoder: &mut ZstdEncoder<'static>,
    input: &[u8],
    after: After,
    output: &mut Vec<u8>,
) -> io::Result<()> {
    let mut input = InBuffer::around(input);
    while input.pos() < input.src.len() {
        output.reserve(OUTPUT_STEP);
        let written = output.len();
        encoder.run(&mut input, &mut OutBuffer::around_pos(output, written))?;
    }
    loop {
        if after == After::Continue {
            return Ok(());
        }
        output.reserve(OUTPUT_STEP);
        let written = output.len();
        let mut space = OutBuffer::around_pos(output, written);
        let left = match after {
            After::Finish => encoder.finish(&mut space, true)?,
            _ => encoder.flush(&mut space)?,
        };
        if left == 0 {
            return Ok(());
        }
    }
}

const OUTPUT_STEP: usize = 8 * 1024;
/// 512 KiB of window: enough for pages, and a bound on what each response that is under way holds.
const ZSTD_WINDOW_LOG: u32 = 19;
const QUALITIES: [BrotliQuality; 12] = [
    BrotliQuality::Q0,
    BrotliQuality::Q1,
    BrotliQuality::Q2,
    BrotliQuality::Q3,
    BrotliQuality::Q4,
    BrotliQuality::Q5,
    BrotliQuality::Q6,
    BrotliQuality::Q7,
    BrotliQuality::Q8,
    BrotliQuality::Q9,
    BrotliQuality::Q10,
    BrotliQuality::Q11,
];
