//! Where logs go.

use std::{fs, path::Path};

use hearth_config::{ByteSize, Spanned};
use hearth_telemetry::{AccessFormat, Output, ProgramFormat, ProgramLog, Rotation, Target};

use super::Checks;
use crate::{
    codes,
    config::{self, AccessLog, Log, LogFormat},
    system,
};

pub(super) fn program(checks: &mut Checks<'_>, log: &Log) -> ProgramLog {
    let mut program = match ProgramLog::default().filter(&log.level) {
        Ok(program) => program,
        Err(error) => {
            let help = "levels are error, warn, info, debug, trace and off, as in `info,net=debug`";
            let message = format!("`log.level`: {error}");
            checks.error(codes::LOG, message, log.level.span(), "", help);
            ProgramLog::default()
        }
    };
    program.format = match log.format {
        LogFormat::Auto => ProgramFormat::Auto,
        LogFormat::Human => ProgramFormat::Human,
        LogFormat::Json => ProgramFormat::Json,
    };
    let target = target(checks, &log.path);
    program.output =
        Output::to(target).rotation(rotation(checks, log.max_size.as_ref(), &log.max_files));
    program
}

pub(super) fn access(checks: &mut Checks<'_>, log: &AccessLog) -> Option<(AccessFormat, Output)> {
    let format = match log.format {
        config::AccessFormat::Combined => AccessFormat::Combined,
        config::AccessFormat::Common => AccessFormat::Common,
        config::AccessFormat::Json => AccessFormat::Json,
    };
    let target = target(checks, log.path.as_ref()?);
    let rotation = rotation(checks, log.max_size.as_ref(), &log.max_files);
    Some((format, Output::to(target).rotation(rotation)))
}

fn rotation(
    checks: &mut Checks<'_>,
    max_size: Option<&Spanned<ByteSize>>,
    max_files: &Spanned<u16>,
) -> Rotation {
    const SIZE_MIN: ByteSize = ByteSize::kib(4);
    let Some(size) = max_size else { return Rotation::default() };
    if **size < SIZE_MIN {
        let message = format!("a log file of {size} is too small to be put aside");
        let label = format!("{SIZE_MIN} or more");
        checks.error(codes::RANGE, message, size.span(), &label, format!("set it to {SIZE_MIN}"));
    }
    Rotation::by_size(size.as_u64(), u32::from(**max_files))
}

fn target(checks: &mut Checks<'_>, path: &Spanned<std::path::PathBuf>) -> Target {
    match path.to_str() {
        Some("stdout") => return Target::Stdout,
        Some("stderr") => return Target::Stderr,
        _ => {}
    }
    let resolved = checks.resolve(path);
    if let Err((message, help)) = check_file(&resolved) {
        checks.error(codes::LOG, message, path.span(), "this log", help);
    }
    Target::File(resolved)
}

/// Whether the file could be opened for appending, without making it.
fn check_file(path: &Path) -> Result<(), (String, &'static str)> {
    let shown = path.display();
    let let_write = "let the user that runs the server write there, or name another file";
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            return Err((format!("the log {shown} is a folder"), "name a file in it"));
        }
        Ok(_) => {
            let opened = fs::OpenOptions::new().append(true).open(path);
            return opened
                .map(drop)
                .map_err(|error| (format!("cannot write to the log {shown}: {error}"), let_write));
        }
        Err(_) => {}
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let shown = folder.display();
    match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => system::check_writable(folder).map_err(|error| {
            (format!("cannot write to the folder of the log, {shown}: {error}"), let_write)
        }),
        Ok(_) => Err((format!("{shown} is no folder"), "name a file in a folder")),
        Err(error) => Err((
            format!("the folder of the log, {shown}, cannot be used: {error}"),
            "create it, or correct the path; it is relative to the configuration file",
        )),
    }
}
