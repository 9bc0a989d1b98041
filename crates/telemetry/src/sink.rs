//! The file behind a log: size, rotation, reopening, and a disk that is full.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::output::{Rotation, Target};

/// What a sink asks of the file system; tests bring one that fails.
pub(crate) trait Files: Send + 'static {
    type File: Write + Send;
    /// Opens for appending, and says how long the file is; `None` where that means nothing.
    fn open(&mut self, target: &Target) -> io::Result<(Self::File, Option<u64>)>;
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&mut self, path: &Path) -> io::Result<()>;
}

/// The real one.
#[derive(Debug)]
pub(crate) struct Disk;

#[derive(Debug)]
pub(crate) enum Opened {
    File(File),
    Stderr(io::Stderr),
    Stdout(io::Stdout),
}

impl Files for Disk {
    type File = Opened;

    fn open(&mut self, target: &Target) -> io::Result<(Opened, Option<u64>)> {
        let path = match target {
            Target::File(path) => path,
            Target::Stderr => return Ok((Opened::Stderr(io::stderr()), None)),
            Target::Stdout => return Ok((Opened::Stdout(io::stdout()), None)),
        };
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        // Client addresses are nobody's business but the operator's.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
        let file = options.open(path)?;
        let metadata = file.metadata()?;
        let size = metadata.is_file().then_some(metadata.len());
        Ok((Opened::File(file), size))
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

impl Write for Opened {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stderr(stderr) => stderr.write(bytes),
            Self::Stdout(stdout) => stdout.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stderr(stderr) => stderr.flush(),
            Self::Stdout(stdout) => stdout.flush(),
        }
    }
}

/// What happened that somebody should know; each is reported once per episode.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Lines cannot be written.
    CannotWrite(io::Error),
    /// The file cannot be put aside and grows on.
    CannotRotate(io::Error),
    /// The file cannot be opened again; the old one stays in use.
    CannotReopen(io::Error),
    /// Writing works again; so many lines were lost.
    Recovered { lines: u64 },
}

/// One open log.
pub(crate) struct Sink<F: Files> {
    files: F,
    target: Target,
    rotation: Rotation,
    file: F::File,
    /// Bytes in the current file; `None` for what is not a regular file and is never put aside.
    size: Option<u64>,
    /// Whether a write broke off in the middle of a line.
    is_torn: bool,
    lost_lines: u64,
    is_failing: bool,
    cannot_rotate: bool,
}

impl<F: Files> Sink<F> {
    pub(crate) fn open(mut files: F, target: Target, rotation: Rotation) -> io::Result<Self> {
        let (file, size) = files.open(&target)?;
        Ok(Self {
            files,
            target,
            rotation,
            file,
            size,
            is_torn: false,
            lost_lines: 0,
            is_failing: false,
            cannot_rotate: false,
        })
    }

    /// Writes whole lines, and puts the file aside between them where it grows too large.
    pub(crate) fn write_lines(&mut self, mut lines: &[u8], report: &mut dyn FnMut(Trouble)) {
        while !lines.is_empty() {
            let room = self.room();
            let (now, later) = split_lines(lines, room);
            if now.is_empty() {
                self.rotate(report);
                continue;
            }
            self.write(now, report);
            lines = later;
        }
    }

    /// Opens the file under its name anew, for those who move it away themselves.
    pub(crate) fn reopen(&mut self, report: &mut dyn FnMut(Trouble)) {
        match self.files.open(&self.target) {
            Ok((file, size)) => {
                self.file = file;
                self.size = size;
                self.is_torn = false;
            }
            Err(error) => report(Trouble::CannotReopen(error)),
        }
    }

    /// Bytes that may still be written before the file is put aside. An empty file takes any one line.
    fn room(&self) -> Room {
        match (self.size, self.rotation.bytes_max) {
            (Some(0), Some(max)) => Room { bytes: max, at_least_a_line: true },
            (Some(size), Some(max)) => {
                Room { bytes: max.saturating_sub(size), at_least_a_line: false }
            }
            _ => Room { bytes: u64::MAX, at_least_a_line: true },
        }
    }

    fn write(&mut self, lines: &[u8], report: &mut dyn FnMut(Trouble)) {
        let mut written = 0;
        let result = self.try_write(lines, &mut written);
        if let Some(size) = &mut self.size {
            *size += written as u64;
        }
        let Err(error) = result else {
            if self.is_failing {
                self.is_failing = false;
                report(Trouble::Recovered { lines: std::mem::take(&mut self.lost_lines) });
            }
            return;
        };
        let (done, lost) = lines.split_at(written.min(lines.len()));
        self.is_torn |= done.last().is_some_and(|byte| *byte != b'\n');
        self.lost_lines += lost.iter().filter(|byte| **byte == b'\n').count() as u64;
        if !self.is_failing {
            self.is_failing = true;
            report(Trouble::CannotWrite(error));
        }
    }

    fn try_write(&mut self, lines: &[u8], written: &mut usize) -> io::Result<()> {
        if self.is_torn {
            self.file.write_all(b"\n")?;
            self.is_torn = false;
        }
        while let Some(rest) = lines.get(*written..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => *written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.file.flush()
    }

    fn rotate(&mut self, report: &mut dyn FnMut(Trouble)) {
        let result = self.try_rotate();
        let failed_before = std::mem::replace(&mut self.cannot_rotate, result.is_err());
        if let Err(error) = result {
            // Growing on is better than losing lines; the next attempt is due after another full size.
            self.size = self.size.map(|_| 0);
            if !failed_before {
                report(Trouble::CannotRotate(error));
            }
        }
    }

    fn try_rotate(&mut self) -> io::Result<()> {
        let Target::File(path) = self.target.clone() else { return Ok(()) };
        let old = |number: u32| -> PathBuf {
            let mut name = path.clone().into_os_string();
            name.push(format!(".{number}"));
            name.into()
        };
        let keep = self.rotation.files_max;
        let last = if keep == 0 { path.clone() } else { old(keep) };
        ignore_missing(self.files.remove(&last))?;
        for number in (1..keep).rev() {
            ignore_missing(self.files.rename(&old(number), &old(number + 1)))?;
        }
        if keep > 0 {
            ignore_missing(self.files.rename(&path, &old(1)))?;
        }
        let (file, size) = self.files.open(&self.target)?;
        self.file = file;
        self.size = size;
        self.is_torn = false;
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
struct Room {
    bytes: u64,
    at_least_a_line: bool,
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// As many whole lines as there is room for, and the rest.
fn split_lines(lines: &[u8], room: Room) -> (&[u8], &[u8]) {
    let bytes = usize::try_from(room.bytes).unwrap_or(usize::MAX);
    if lines.len() <= bytes {
        return (lines, &[]);
    }
    let head = lines.get(..bytes).unwrap_or(lines);
    let end = match head.iter().rposition(|byte| *byte == b'\n') {
        Some(newline) => newline + 1,
        None if room.at_least_a_line => {
            lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |newline| newline + 1)
        }
        None => 0,
    };
    lines.split_at(end)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use parking_lot::Mutex;

    use super::*;

    /// A disk in memory with so many bytes left.
    #[derive(Clone, Default)]
    struct Fake(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        files: BTreeMap<PathBuf, Arc<Mutex<Vec<u8>>>>,
        free: usize,
        refuses_rename: bool,
    }

    struct FakeFile(Fake, Arc<Mutex<Vec<u8>>>);

    impl Write for FakeFile {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.0.0.lock();
            let count = bytes.len().min(state.free);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.free -= count;
            self.1.lock().extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Files for Fake {
        type File = FakeFile;

        fn open(&mut self, target: &Target) -> io::Result<(FakeFile, Option<u64>)> {
            let Target::File(path) = target else { panic!("only files here") };
            let file = self.0.lock().files.entry(path.clone()).or_default().clone();
            let size = file.lock().len() as u64;
            Ok((FakeFile(self.clone(), file), Some(size)))
        }

        fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
            let mut state = self.0.lock();
            if state.refuses_rename {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            let file = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
            state.files.insert(to.into(), file);
            Ok(())
        }

        fn remove(&mut self, path: &Path) -> io::Result<()> {
            self.0.lock().files.remove(path).map(drop).ok_or(io::ErrorKind::NotFound.into())
        }
    }

    impl Fake {
        fn with_free(free: usize) -> Self {
            let fake = Self::default();
            fake.0.lock().free = free;
            fake
        }

        fn sink(&self, rotation: Rotation) -> Sink<Self> {
            Sink::open(self.clone(), Target::File("log".into()), rotation).unwrap()
        }

        fn listing(&self) -> String {
            let state = self.0.lock();
            let one = |(path, file): (&PathBuf, &Arc<Mutex<Vec<u8>>>)| {
                format!("{}={}", path.display(), String::from_utf8_lossy(&file.lock()))
            };
            state.files.iter().map(one).collect::<Vec<_>>().join("|").replace('\n', ",")
        }
    }

    #[test]
    fn rotates_between_lines() {
        let fake = Fake::with_free(1000);
        let mut sink = fake.sink(Rotation::by_size(8, 2));
        let mut never = |trouble| panic!("{trouble:?}");
        sink.write_lines(b"aaa\nbbb\nccc\nddd\neee\n", &mut never);
        assert_eq!(fake.listing(), "log=eee,|log.1=ccc,ddd,|log.2=aaa,bbb,");
        sink.write_lines(b"much longer than any file may be\nf\n", &mut never);
        assert_eq!(fake.listing(), "log=f,|log.1=much longer than any file may be,|log.2=eee,");
    }

    #[test]
    fn keeps_no_old_file_when_told_so() {
        let fake = Fake::with_free(1000);
        let mut sink = fake.sink(Rotation::by_size(4, 0));
        sink.write_lines(b"aaa\nbbb\n", &mut |trouble| panic!("{trouble:?}"));
        assert_eq!(fake.listing(), "log=bbb,");
    }

    #[test]
    fn grows_on_where_it_cannot_rotate() {
        let fake = Fake::with_free(1000);
        fake.0.lock().refuses_rename = true;
        let mut sink = fake.sink(Rotation::by_size(4, 1));
        let mut troubles = 0;
        sink.write_lines(b"aaa\nbbb\nccc\n", &mut |_| troubles += 1);
        assert_eq!(fake.listing(), "log=aaa,bbb,ccc,");
        assert_eq!(troubles, 1);
    }

    #[test]
    fn survives_a_full_disk() {
        let fake = Fake::with_free(6);
        let mut sink = fake.sink(Rotation::default());
        let mut told = Vec::new();
        let mut tell = |trouble: Trouble| told.push(format!("{trouble:?}"));
        sink.write_lines(b"aaa\nbbb\nccc\n", &mut tell);
        sink.write_lines(b"ddd\n", &mut tell);
        fake.0.lock().free = 1000;
        sink.write_lines(b"eee\n", &mut tell);
        sink.write_lines(b"fff\n", &mut tell);
        // The line that broke off is closed before the next one begins.
        assert_eq!(fake.listing(), "log=aaa,bb,eee,fff,");
        let want = ["CannotWrite(Kind(StorageFull))", "Recovered { lines: 3 }"];
        assert_eq!(told, want);
    }

    #[test]
    fn reopens_under_its_name() {
        let fake = Fake::with_free(1000);
        let mut sink = fake.sink(Rotation::default());
        let mut never = |trouble| panic!("{trouble:?}");
        sink.write_lines(b"a\n", &mut never);
        fake.clone().rename(Path::new("log"), Path::new("moved")).unwrap();
        sink.write_lines(b"b\n", &mut never);
        sink.reopen(&mut never);
        sink.write_lines(b"c\n", &mut never);
        assert_eq!(fake.listing(), "log=c,|moved=a,b,");
    }
}
