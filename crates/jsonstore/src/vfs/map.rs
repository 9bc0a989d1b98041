//! Mapping files into memory: the only unsafe code of the crate, behind the feature `mmap`.

use std::{fs::File, io, sync::Arc};

use memmap2::{Advice, Mmap, UncheckedAdvice};

use super::Mapped;

#[derive(Debug)]
struct MappedFile(Mmap);

/// Maps a whole file for reading.
#[expect(unsafe_code, reason = "memmap2 leaves to the caller that nobody changes the file")]
pub(super) fn map(file: &File) -> io::Result<Option<Arc<dyn Mapped>>> {
    // SAFETY: only segments are mapped. They are complete and synced before the first reader knows
    // them, no code of this crate writes to one again, and the lock of the store keeps other
    // processes that go by it out. Removing one leaves the mapping intact. Who cuts or changes a
    // file from outside nevertheless breaks this; the option that asks for mappings says so.
    let map = unsafe { Mmap::map(file)? };
    map.advise(Advice::Random)?;
    Ok(Some(Arc::new(MappedFile(map))))
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Mapped for MappedFile {
    #[expect(unsafe_code, reason = "memmap2 cannot know what the mapping is")]
    fn evict(&self) -> io::Result<()> {
        // SAFETY: a shared mapping of a file that is only read: what is dropped comes back from the
        // file as it was.
        unsafe { self.0.unchecked_advise(UncheckedAdvice::DontNeed) }
    }
}
