//! Work behind the writers: flushing, compaction, marks, locks that wait too long.

use std::{
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::Core;
use crate::{
    backup::archive::Archiver,
    bugs::bug,
    error::{Error, Result},
    frame::FrameType,
    guard::Reading,
    lsm::{self, GcRule, LEVELS, Levels, MergeIter, Output, OutputConfig, Plan, Source},
    manifest::State,
    memtable::Memtable,
    observe::{Operation, Reporter},
    segment::{Segment, SegmentInfo},
    wal::{Record, WalWriter},
};

/// How often the ticker looks, when nobody waits for a lock.
const TICK: Duration = Duration::from_millis(50);
/// An application is told at most so often that memory was freed.
const FREED_PAUSE: Duration = Duration::from_secs(1);
/// After an archive that could not be written to.
const ARCHIVE_PAUSE: Duration = Duration::from_secs(1);
/// While there is more to delete of what has expired.
const EXPIRY_PAUSE: Duration = Duration::from_millis(10);
const CUTS_PER_TICK_MAX: u32 = 16;
const SCRUB_BYTES_PER_SECOND: u64 = 10 << 20;
/// A small store need not be read over and over.
const SCRUB_PAUSE_MIN: Duration = Duration::from_secs(60);

impl Core {
    /// Does one piece of background work, if there is any; for simulations.
    pub(crate) fn step(&self) -> bool {
        self.log.step()
            || self.flush_one().unwrap_or(false)
            || self.compact_one().unwrap_or(false)
            || self.archive_one().unwrap_or(false)
    }

    /// Copies a sealed log file to the archive. `false` if there is none, or no archive.
    pub(crate) fn archive_one(&self) -> Result<bool> {
        match &self.archiver {
            Some(archiver) if !self.options.read_only => archiver.archive_one(&self.log),
            _ => Ok(false),
        }
    }

    /// Writes the oldest frozen memtable as segments. `false` if there is none that can be.
    pub(crate) fn flush_one(&self) -> Result<bool> {
        let _one = self.flush_lock.lock();
        let Some(table) = self.tree().frozen.first().cloned() else { return Ok(false) };
        self.balance_memory();
        // What is not visible is not durable, and must not reach a segment before the log.
        if table.last_seq() > self.log.visible() {
            self.log.sync_due.store(true, Ordering::Relaxed);
            return Ok(false);
        }
        if self.options.read_only {
            return Ok(false);
        }
        let timer = self.timer(Operation::Flush);
        let (rule, gc_seq) = self.gc_rule();
        let infos = self.write_table(&table, &rule).inspect_err(|e| self.note_failure(e))?;
        self.install_flush(&table, infos, gc_seq).inspect_err(|e| self.note_failure(e))?;
        timer.done();
        self.counters.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    fn write_table(&self, table: &Arc<Memtable>, rule: &GcRule) -> Result<Vec<SegmentInfo>> {
        let next = || self.next_file.fetch_add(1, Ordering::Relaxed);
        let mut output = Output::new(self.output_config(&next));
        for keyspace in table.keyspaces() {
            let source = Source::memtable(table, keyspace, &[], None);
            let mut merge = MergeIter::new(vec![source], u64::MAX)?;
            let (mut key, mut newer) = (Bytes::new(), None);
            while let Some(entry) = merge.next_version()? {
                if entry.key != key {
                    key = entry.key.clone();
                    newer = None;
                }
                let needed = rule.is_needed(entry.seq, newer);
                newer = Some(entry.seq);
                if needed {
                    output.add(keyspace, &entry.key, entry.seq, entry.value.as_deref(), None)?;
                }
            }
        }
        output.finish()
    }

    fn install_flush(
        &self,
        table: &Arc<Memtable>,
        infos: Vec<SegmentInfo>,
        gc_seq: u64,
    ) -> Result<()> {
        let mut manifest = self.manifest.lock();
        let tree = self.tree.load_full();
        let mut levels = Levels::clone(&tree.levels);
        for info in infos {
            levels.levels[0].insert(0, self.segment(info));
        }
        let rest: Vec<Arc<Memtable>> = tree
            .frozen
            .iter()
            .chain([&tree.active])
            .filter(|t| !Arc::ptr_eq(t, table))
            .cloned()
            .collect();
        let floor = if bug("floor_too_high") {
            self.log.with_wal(|wal| wal.position())
        } else {
            self.log.floor(&rest)
        };
        let flushed = self.flushed_seq.load(Ordering::Relaxed).max(table.last_seq());
        let gc_seq = gc_seq.max(tree.gc_seq);
        manifest.append(&self.state(&levels, flushed, floor)).inspect_err(|e| self.fail(e))?;
        self.flushed_seq.store(flushed, Ordering::Relaxed);
        self.change_tree(|tree| {
            tree.frozen.retain(|t| !Arc::ptr_eq(t, table));
            tree.levels = Arc::new(levels);
            tree.gc_seq = gc_seq;
        });
        drop(manifest);
        self.log.with_wal(|wal| wal.release(floor));
        Ok(())
    }

    /// Does the most urgent compaction. `false` if none is due.
    pub(crate) fn compact_one(&self) -> Result<bool> {
        if !self.options.compaction || self.options.read_only {
            return Ok(false);
        }
        let _one = self.compact_lock.lock();
        let levels = Arc::clone(&self.tree().levels);
        let plan = {
            let mut cursors = self.cursors.lock();
            lsm::pick(&levels, self.options.l0_trigger, self.options.level_base_bytes, &mut cursors)
        };
        match plan.or_else(|| lsm::pick_deleted(&levels, self.gc_rule().0.oldest())) {
            None => Ok(false),
            Some(plan) => self.compact(&plan, &levels).map(|()| true),
        }
    }

    /// Re-reads one segment and checks every block, at a limited rate, going round all of them.
    /// Damage is noted, not repaired: only a backup can.
    pub(crate) fn scrub_one(&self) -> bool {
        let now = self.options.env.now();
        let segment = {
            let scrub = self.scrub.lock();
            if now < scrub.not_before {
                return false;
            }
            let levels = Arc::clone(&self.tree().levels);
            let next = levels
                .all()
                .map(|(_, s)| s)
                .filter(|s| s.info.number > scrub.last)
                .min_by_key(|s| s.info.number);
            let next = next.or_else(|| levels.all().map(|(_, s)| s).min_by_key(|s| s.info.number));
            let Some(next) = next else { return false };
            Arc::clone(next)
        };
        let outcome = segment.verify(&mut |_| Ok(()));
        let mut scrub = self.scrub.lock();
        scrub.last = segment.info.number;
        scrub.bytes += segment.info.bytes;
        // A whole round takes at least an hour, and no more than the set rate is read.
        let at_rate = Duration::from_millis(segment.info.bytes * 1000 / SCRUB_BYTES_PER_SECOND);
        scrub.not_before = now + at_rate.max(SCRUB_PAUSE_MIN);
        if let Err(Error::Corruption { file, detail, .. }) = outcome {
            scrub.damage.insert(file, detail);
        }
        true
    }

    /// Merges everything into the lowest level there is.
    pub(crate) fn compact_all(&self) -> Result<()> {
        let _one = self.compact_lock.lock();
        let last = {
            let levels = Arc::clone(&self.tree().levels);
            (1..LEVELS).rev().find(|l| !levels.levels[*l].is_empty()).unwrap_or(1)
        };
        for from in 0..last {
            let levels = Arc::clone(&self.tree().levels);
            // The last level is rewritten even alone: it may hold what nobody sees any more.
            if levels.levels[from].is_empty() && from + 1 < last {
                continue;
            }
            let plan = if from == 0 && !levels.levels[0].is_empty() {
                lsm::plan_l0(&levels)
            } else {
                Plan {
                    from,
                    inputs: levels.levels[from].clone(),
                    below: levels.levels[from + 1].clone(),
                    rewrites: false,
                }
            };
            self.compact(&plan, &levels)?;
        }
        Ok(())
    }

    pub(super) fn compact(&self, plan: &Plan, levels: &Levels) -> Result<()> {
        let timer = self.timer(Operation::Compaction);
        let (rule, gc_seq) = self.gc_rule();
        let is_alone = plan.inputs.len() == 1 && plan.below.is_empty();
        let moves = plan.from > 0 && is_alone && !plan.rewrites;
        let infos = if moves {
            vec![plan.inputs[0].info.clone()]
        } else {
            let next = || self.next_file.fetch_add(1, Ordering::Relaxed);
            lsm::run(plan, levels, &rule, self.output_config(&next), &mut |bytes| self.relax(bytes))
                .inspect_err(|e| self.note_failure(e))?
        };
        let bytes: u64 = infos.iter().map(|i| i.bytes).sum();
        let outputs: Vec<Arc<Segment>> = if moves {
            plan.inputs.clone()
        } else {
            infos.into_iter().map(|info| self.segment(info)).collect()
        };
        self.install_compaction(plan, outputs, gc_seq, moves)?;
        timer.done();
        self.counters.compactions.fetch_add(1, Ordering::Relaxed);
        self.counters.compacted_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn install_compaction(
        &self,
        plan: &Plan,
        outputs: Vec<Arc<Segment>>,
        gc_seq: u64,
        moves: bool,
    ) -> Result<()> {
        let mut manifest = self.manifest.lock();
        let tree = self.tree.load_full();
        let mut levels = Levels::clone(&tree.levels);
        let gone: Vec<u64> = plan.inputs.iter().chain(&plan.below).map(|s| s.info.number).collect();
        for list in &mut levels.levels {
            list.retain(|s| !gone.contains(&s.info.number));
        }
        let target = &mut levels.levels[plan.from + 1];
        target.extend(outputs);
        target.sort_by(|a, b| a.info.min_key.cmp(&b.info.min_key));
        let gc_seq = gc_seq.max(tree.gc_seq);
        let flushed = self.flushed_seq.load(Ordering::Relaxed);
        let tables: Vec<Arc<Memtable>> =
            tree.frozen.iter().chain([&tree.active]).cloned().collect();
        let floor = self.log.floor(&tables);
        if bug("remove_before_manifest") && !moves {
            for segment in plan.inputs.iter().chain(&plan.below) {
                let path = lsm::segment_path(&self.segments_dir(), segment.info.number);
                let _ = self.options.vfs.remove(&path);
            }
        }
        manifest.append(&self.state(&levels, flushed, floor)).inspect_err(|e| self.fail(e))?;
        self.change_tree(|tree| {
            tree.levels = Arc::new(levels);
            tree.gc_seq = gc_seq;
        });
        drop(manifest);
        if !moves {
            for segment in plan.inputs.iter().chain(&plan.below) {
                segment.supersede();
            }
        }
        Ok(())
    }

    pub(super) fn state(&self, levels: &Levels, flushed_seq: u64, wal_floor: u64) -> State {
        State {
            next_file: self.next_file.load(Ordering::Relaxed),
            flushed_seq,
            wal_floor,
            wal_file_bytes: self.options.wal_file_bytes,
            segments: levels.all().map(|(level, s)| (level as u8, s.info.clone())).collect(),
        }
    }

    /// Which versions someone may still ask for, and the snapshot from which that is complete.
    pub(super) fn gc_rule(&self) -> (GcRule, u64) {
        let (boundaries, visible) = self.log.boundaries();
        (GcRule { boundaries }, visible)
    }

    pub(crate) fn output_config<'a>(
        &'a self,
        next_number: &'a dyn Fn() -> u64,
    ) -> OutputConfig<'a> {
        OutputConfig {
            vfs: &*self.options.vfs,
            env: &*self.options.env,
            dictionaries: &self.dictionaries,
            dir: self.segments_dir(),
            store_id: self.store_id,
            key: self.options.key.clone(),
            segment_bytes: self.options.segment_bytes,
            next_number,
        }
    }

    /// Between pieces of a compaction: give way, or stop if the store closes.
    fn relax(&self, bytes: u64) -> Result<()> {
        let mut wait = self.pace.take(bytes, self.options.env.now());
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::Closed);
            }
            // Writers who wait for compaction go before readers.
            let hurries = self.tree().levels.levels[0].len() >= self.options.l0_slow;
            if hurries || !self.options.env.has_threads() {
                return Ok(());
            }
            if wait.is_zero() {
                std::thread::yield_now();
                return Ok(());
            }
            let pause = wait.min(TICK);
            std::thread::sleep(pause);
            wait -= pause;
        }
    }

    /// A failed edit of the manifest leaves unknown what is on disk.
    pub(super) fn fail(&self, e: &Error) {
        self.log.poison(&format!("writing the manifest failed: {e}"));
    }

    fn note_failure(&self, e: &Error) {
        if !matches!(e, Error::Closed) {
            *self.background_error.lock() = Some(e.clone());
        }
    }

    pub(crate) fn background_error(&self) -> Option<Error> {
        let archiving = || self.archiver.as_ref().and_then(Archiver::error);
        self.background_error.lock().clone().or_else(archiving)
    }

    /// Everything committed so far is in segments afterwards, and the log is short.
    pub(crate) fn checkpoint(&self) -> Result<()> {
        self.check_open()?;
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        self.rotate(true);
        loop {
            let waits = self.tree().frozen.first().map(|t| t.last_seq());
            let Some(last) = waits else { return self.trim_log() };
            self.carry(last)?;
            self.flush_one()?;
        }
    }

    /// Ends when everything up to a commit can be seen by everybody.
    ///
    /// # Errors
    /// `Poisoned`.
    pub(crate) fn carry(&self, seq: u64) -> Result<()> {
        loop {
            if self.log.is_poisoned() {
                return Err(self.log.poison_error());
            }
            if seq <= self.log.visible() {
                return Ok(());
            }
            // Commits on their way have waiters or the log thread to carry them; what was only written, a
            // mark makes durable.
            if !self.log.step() {
                self.mark();
                std::thread::yield_now();
            }
        }
    }

    /// Lets go of a log file of which nothing is needed any more.
    fn trim_log(&self) -> Result<()> {
        match self.log.when_idle(|wal, _| wal.begin_file()) {
            Some(Ok(true)) => {}
            Some(Err(e)) => {
                self.log.poison(&format!("beginning a log file failed: {e}"));
                return Err(self.log.poison_error());
            }
            // Busy writers move the floor with the next flush.
            _ => return Ok(()),
        }
        let mut manifest = self.manifest.lock();
        let tree = self.tree.load_full();
        let tables: Vec<Arc<Memtable>> =
            tree.frozen.iter().chain([&tree.active]).cloned().collect();
        let floor = self.log.floor(&tables);
        let flushed = self.flushed_seq.load(Ordering::Relaxed);
        let state = self.state(&tree.levels, flushed, floor);
        manifest.append(&state).inspect_err(|e| self.fail(e))?;
        drop(manifest);
        self.log.with_wal(|wal| wal.release(floor));
        Ok(())
    }

    /// What has to be done from time to time.
    pub(crate) fn tick(self: &Arc<Self>) {
        if self.locks.has_waiters() {
            self.locks.detect();
            self.locks.expire(self.options.env.now());
        }
        self.watch_space();
        self.balance_memory();
        self.watch_sessions();
        self.watch_changes();
        self.evict_maps();
        self.pace.judge(self.options.env.now(), self.options.read_latency_target);
        let floor_lag = {
            let tree = self.tree();
            let tables: Vec<Arc<Memtable>> =
                tree.frozen.iter().chain([&tree.active]).cloned().collect();
            let floor = self.log.floor(&tables);
            self.log.with_wal(|wal| wal.backlog(floor))
        };
        if floor_lag > self.options.wal_bytes_max {
            self.rotate(true);
        }
    }

    /// Cuts the change logs; what fails now is tried again.
    fn watch_changes(self: &Arc<Self>) {
        for _ in 0..CUTS_PER_TICK_MAX {
            if !self.cut_changes().unwrap_or(false) {
                break;
            }
        }
    }

    /// Ends waits of guarded sessions that are over, and looks how the machine does.
    fn watch_sessions(&self) {
        if self.sessions.session_count() == 0 {
            return;
        }
        self.sessions.tick(self.options.env.now());
        let free = self.options.vfs.free_space(&self.dir).ok();
        let tree = self.tree();
        let is_behind =
            tree.levels.levels[0].len() >= self.options.l0_slow || tree.frozen.len() >= 3;
        self.sessions.pressure.note(Reading::take(free, is_behind), self.sessions.limits());
    }

    /// On idle, proves the last group durable, so that damage to it is told from a torn write.
    pub(crate) fn mark(&self) {
        let done = self.log.when_idle(|wal, last| {
            let marked = self.last_mark.load(Ordering::Relaxed);
            if last == marked && !wal.is_dirty() {
                return Ok(());
            }
            let mark = Record { kind: FrameType::Mark, seq: last, flags: 0, payload: Bytes::new() };
            wal.append(&[mark], true)?;
            self.log.publish_to(last);
            self.last_mark.store(last, Ordering::Relaxed);
            Ok::<(), std::io::Error>(())
        });
        if let Some(Err(e)) = done {
            self.log.poison(&format!("writing to the log failed: {e}"));
        }
    }

    /// Mapped segments that were not touched for longest give their pages back first.
    fn evict_maps(&self) {
        let budget = &self.blocks.maps;
        if !budget.is_exceeded() {
            return;
        }
        let levels = Arc::clone(&self.tree().levels);
        let mut maps: Vec<_> = levels.all().filter_map(|(_, segment)| segment.map()).collect();
        maps.sort_by_key(|map| map.last_touch());
        for map in maps {
            if budget.resident() <= budget.bytes_max / 4 * 3 {
                return;
            }
            map.evict(budget);
        }
    }

    fn watch_space(&self) {
        if self.options.read_only {
            return;
        }
        let reserve = self.options.disk_reserve_bytes;
        let Ok(free) = self.options.vfs.free_space(&self.dir) else { return };
        if free < reserve.saturating_mul(4) {
            let age = self.options.max_snapshot_age.as_millis() as u64;
            self.log.cancel_snapshots(self.now_ms().saturating_sub(age));
        }
        let failed = match &*self.background_error.lock() {
            Some(Error::Io { source, .. }) => source.kind() == std::io::ErrorKind::StorageFull,
            _ => false,
        };
        if free < reserve {
            self.log.refuse(Some(Error::DiskFull { free, reserve }));
        } else {
            self.log.refuse(None);
            if failed {
                *self.background_error.lock() = None;
            }
        }
    }

    pub(crate) fn wake_background(&self) {
        *self.work.0.lock() += 1;
        self.work.1.notify_all();
    }

    /// Ends the store in order. Whoever still holds a handle gets `Closed`.
    pub(crate) fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        self.stop.store(true, Ordering::SeqCst);
        self.end_index_jobs();
        self.log.refuse(Some(Error::Closed));
        while self.log.step() {}
        let mut result = Ok(());
        if !self.options.read_only {
            let mut tries = 0;
            loop {
                let done = self.log.when_idle(WalWriter::close);
                match done {
                    Some(Ok(())) => break,
                    Some(Err(e)) => {
                        result = Err(Error::io("close", self.dir.join("wal"), e));
                        break;
                    }
                    None if self.log.is_poisoned() => break,
                    None => {
                        tries += 1;
                        if tries > 10_000 {
                            break;
                        }
                        std::thread::yield_now();
                    }
                }
            }
        }
        self.guard.lock().take();
        result
    }

    fn wait_for_work(&self, seen: &mut u64, pause: Duration) {
        let mut count = self.work.0.lock();
        if *count == *seen && !self.stop.load(Ordering::Relaxed) {
            self.work.1.wait_for(&mut count, pause);
        }
        *seen = *count;
    }
}

/// The threads of one store. They end when it is closed.
#[derive(Debug)]
pub(crate) struct Threads(Mutex<Vec<JoinHandle<()>>>);

impl Threads {
    pub(crate) fn start(core: &Arc<Core>) -> Self {
        let mut threads = Vec::new();
        if core.options.env.has_threads() && !core.options.read_only {
            type Loop = fn(&Arc<Core>);
            let loops: [(&str, Loop); 6] = [
                ("log", |core| core.log.serve(&core.stop)),
                ("tick", tick_loop),
                ("flush", flush_loop),
                ("compact", compact_loop),
                ("index", index_loop),
                ("archive", archive_loop),
            ];
            let count = if core.archiver.is_some() { loops.len() } else { loops.len() - 1 };
            for (name, run) in loops.into_iter().take(count) {
                let core = Arc::clone(core);
                let builder = std::thread::Builder::new().name(format!("jsonstore-{name}"));
                threads.extend(builder.spawn(move || run(&core)));
            }
            let core = Arc::clone(core);
            let builder = std::thread::Builder::new().name("jsonstore-text".into());
            threads.extend(builder.spawn(move || text_loop(&core)));
        }
        Self(Mutex::new(threads))
    }

    pub(crate) fn stop(&self, core: &Core) {
        core.stop.store(true, Ordering::SeqCst);
        core.wake_background();
        core.log.wake_server();
        for thread in self.0.lock().drain(..) {
            thread.thread().unpark();
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

fn tick_loop(core: &Arc<Core>) {
    let commits = || core.log.commits.load(Ordering::Relaxed);
    let mut idle_since = (commits(), core.options.env.now());
    let mut synced_at = core.options.env.now();
    let mut reporter = Reporter::default();
    let mut freed = Freed::default();
    while !core.stop.load(Ordering::Relaxed) {
        let pause = if core.locks.has_waiters() {
            core.options.deadlock_check_after
        } else {
            TICK.min(core.options.deadlock_check_after)
        };
        std::thread::park_timeout(pause);
        core.tick();
        core.watch_health(&mut reporter);
        let (seen, now) = (commits(), core.options.env.now());
        if core.options.durability == crate::options::Durability::Interval
            && now.saturating_sub(synced_at) >= core.options.sync_interval
        {
            core.log.sync_due.store(true, Ordering::Relaxed);
            core.mark();
            synced_at = now;
        }
        freed.tell(core, now);
        if seen != idle_since.0 {
            idle_since = (seen, now);
        } else if now.saturating_sub(idle_since.1) >= TICK {
            core.mark();
        }
    }
}

/// Tells the application that memory was freed.
#[derive(Debug, Default)]
struct Freed {
    /// Flushes and compactions that it was told of.
    work: u64,
    told_at: Duration,
}

impl Freed {
    fn tell(&mut self, core: &Core, now: Duration) {
        let Some(tell) = core.options.on_memory_freed else { return };
        let counters = [&core.counters.flushes, &core.counters.compactions];
        let work = counters.map(|count| count.load(Ordering::Relaxed)).iter().sum();
        if work != self.work && now.saturating_sub(self.told_at) >= FREED_PAUSE {
            (self.work, self.told_at) = (work, now);
            tell();
        }
    }
}

fn flush_loop(core: &Arc<Core>) {
    let mut seen = 0;
    while !core.stop.load(Ordering::Relaxed) {
        match core.flush_one() {
            Ok(true) => core.wake_background(),
            Ok(false) => core.wait_for_work(
                &mut seen,
                if core.tree().frozen.is_empty() { TICK } else { Duration::from_millis(1) },
            ),
            Err(_) => std::thread::sleep(TICK),
        }
    }
}

fn archive_loop(core: &Arc<Core>) {
    let mut seen = 0;
    while !core.stop.load(Ordering::Relaxed) {
        match core.archive_one() {
            Ok(true) => {}
            Ok(false) => core.wait_for_work(&mut seen, TICK),
            // The log waits; there is nothing to gain by trying faster.
            Err(_) => core.wait_for_work(&mut seen, ARCHIVE_PAUSE),
        }
    }
}

fn index_loop(core: &Arc<Core>) {
    let mut seen = 0;
    while !core.stop.load(Ordering::Relaxed) {
        let expired = core.step_expiry().unwrap_or_else(|e| {
            core.note_failure(&e);
            false
        });
        if !core.step_indexes() {
            let waits = core.has_index_jobs() || expired;
            let pause = if expired { EXPIRY_PAUSE } else { Duration::from_millis(1) };
            core.wait_for_work(&mut seen, if waits { pause } else { TICK * 4 });
        }
    }
}

fn text_loop(core: &Arc<Core>) {
    let mut seen = 0;
    while !core.stop.load(Ordering::Relaxed) {
        match core.keep_text() {
            Ok(true) => {}
            Ok(false) => core.wait_for_work(&mut seen, TICK),
            Err(e) => {
                core.note_failure(&e);
                std::thread::sleep(TICK);
            }
        }
    }
}

fn compact_loop(core: &Arc<Core>) {
    let mut seen = 0;
    while !core.stop.load(Ordering::Relaxed) {
        match core.compact_one() {
            Ok(true) => {}
            Ok(false) => {
                // Only when nothing else has to be done, and not right after opening.
                if core.options.env.now() > SCRUB_PAUSE_MIN {
                    core.scrub_one();
                }
                core.wait_for_work(&mut seen, TICK * 4);
            }
            Err(_) => std::thread::sleep(TICK),
        }
    }
}
