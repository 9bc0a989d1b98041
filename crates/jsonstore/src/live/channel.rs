//! Waking those whom a commit concerns.

use std::{
    cell::RefCell,
    collections::HashMap,
    future::poll_fn,
    hash::Hasher,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Poll, Waker},
};

use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3;

use crate::{
    key,
    query::{Expr, Filter, Path, Test},
};

/// Values of one `$in` that are listened for one by one; with more, every change is.
const VALUES_MAX: usize = 100;
/// What a thread keeps for encoding values.
const SCRATCH_BYTES_MAX: usize = 4096;

/// Those who listen to a collection.
#[derive(Debug, Default)]
pub(crate) struct Channel {
    /// Changes whenever somebody begins to listen.
    generation: AtomicU64,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    next: u64,
    /// Whom every change concerns.
    general: HashMap<u64, Arc<Slot>>,
    /// Whom changes of documents concern that have or had a value at a path.
    by_value: HashMap<Address, HashMap<u64, Arc<Slot>>>,
    /// The paths of these, with how many listen.
    paths: HashMap<Path, usize>,
}

/// A value at a path, by its hash: who is woken for nothing goes back to sleep.
type Address = u64;

#[derive(Debug, Default)]
struct Slot {
    is_due: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// What a listener wants to know of.
#[derive(Debug, Clone)]
enum Interest {
    Everything,
    Values(Path, Vec<Address>),
}

/// A place among the listeners; dropping it leaves.
#[derive(Debug)]
pub(super) struct Listener {
    channel: Arc<Channel>,
    number: u64,
    interest: Interest,
    slot: Arc<Slot>,
}

/// Whom a transaction wakes once it can be seen.
#[derive(Debug)]
pub(crate) struct Notice {
    channel: Arc<Channel>,
    /// When the addresses were gathered.
    generation: u64,
    addresses: Vec<Address>,
}

impl Channel {
    /// The notice of a changed document.
    pub(super) fn notice(self: &Arc<Self>, old: Option<&[u8]>, new: Option<&[u8]>) -> Notice {
        let generation = self.generation.load(Ordering::SeqCst);
        let mut addresses = Vec::new();
        for path in self.slots.lock().paths.keys() {
            for image in [old, new].into_iter().flatten() {
                let _ = path.each(image, |value| {
                    addresses.extend(value.and_then(|value| address(path, value)));
                    ControlFlow::Continue(())
                });
            }
        }
        addresses.sort_unstable();
        addresses.dedup();
        Notice { channel: Arc::clone(self), generation, addresses }
    }

    pub(super) fn listen(self: &Arc<Self>, filter: &Filter) -> Listener {
        let interest = interest(filter.expr());
        let slot = Arc::new(Slot::default());
        let mut slots = self.slots.lock();
        slots.next += 1;
        let number = slots.next;
        match &interest {
            Interest::Everything => {
                slots.general.insert(number, Arc::clone(&slot));
            }
            Interest::Values(path, addresses) => {
                *slots.paths.entry(path.clone()).or_default() += 1;
                for address in addresses {
                    let all = slots.by_value.entry(*address).or_default();
                    all.insert(number, Arc::clone(&slot));
                }
            }
        }
        self.generation.fetch_add(1, Ordering::SeqCst);
        drop(slots);
        Listener { channel: Arc::clone(self), number, interest, slot }
    }
}

impl Notice {
    /// The transaction can be seen.
    pub(crate) fn send(&self) {
        let slots = self.channel.slots.lock();
        slots.general.values().for_each(|slot| slot.notify());
        let special = slots.by_value.values().flat_map(HashMap::values);
        if self.generation != self.channel.generation.load(Ordering::SeqCst) {
            // Somebody began to listen in between; whom it concerns is not known.
            special.for_each(|slot| slot.notify());
            return;
        }
        let meant = self.addresses.iter().filter_map(|address| slots.by_value.get(address));
        meant.flat_map(HashMap::values).for_each(|slot| slot.notify());
    }
}

impl Slot {
    fn notify(&self) {
        self.is_due.store(true, Ordering::SeqCst);
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }
}

impl Listener {
    /// From here on changes count as new; look at what there is after calling this.
    pub(super) fn reset(&self) {
        self.slot.is_due.store(false, Ordering::SeqCst);
    }

    /// Waits until something happened since `reset`.
    pub(super) async fn wait(&self) {
        poll_fn(|context| {
            if self.slot.is_due.load(Ordering::SeqCst) {
                return Poll::Ready(());
            }
            *self.slot.waker.lock() = Some(context.waker().clone());
            match self.slot.is_due.load(Ordering::SeqCst) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut slots = self.channel.slots.lock();
        slots.general.remove(&self.number);
        if let Interest::Values(path, addresses) = &self.interest {
            for address in addresses {
                if let Some(all) = slots.by_value.get_mut(address) {
                    all.remove(&self.number);
                    if all.is_empty() {
                        slots.by_value.remove(address);
                    }
                }
            }
            if let Some(count) = slots.paths.get_mut(path) {
                *count -= 1;
                if *count == 0 {
                    slots.paths.remove(path);
                }
            }
        }
    }
}

/// A document that matches has, and one that matched had, one of the values.
fn interest(expr: &Expr) -> Interest {
    let of = |expr: &Expr| match expr {
        Expr::Field { path, test: Test::Eq(operand) } => {
            let value = (operand.jb1.first() != Some(&0)).then(|| address(path, &operand.jb1));
            value.flatten().map(|address| Interest::Values(path.clone(), vec![address]))
        }
        Expr::Field { path, test: Test::In(operands) } if operands.len() <= VALUES_MAX => {
            let all = operands.iter().map(|operand| {
                let value = (operand.jb1.first() != Some(&0)).then(|| address(path, &operand.jb1));
                value.flatten()
            });
            Some(Interest::Values(path.clone(), all.collect::<Option<_>>()?))
        }
        _ => None,
    };
    let found = match expr {
        Expr::And(all) => all.iter().find_map(of),
        one => of(one),
    };
    found.unwrap_or(Interest::Everything)
}

fn address(path: &Path, value: &[u8]) -> Option<Address> {
    thread_local! {
        // Every commit of a followed collection comes here: it need not allocate.
        static ENCODED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    ENCODED.with_borrow_mut(|encoded| {
        encoded.clear();
        key::encode(value, encoded)?;
        let mut hash = Xxh3::new();
        hash.write(path.as_str().as_bytes());
        hash.write_u8(0);
        hash.write(encoded);
        encoded.shrink_to(SCRATCH_BYTES_MAX);
        Some(hash.finish())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::jb1::{Limits, from_value};

    #[test]
    fn only_whom_it_concerns_is_woken() {
        let channel = Arc::new(Channel::default());
        let image = |value: Value| from_value(&value, &Limits::default()).unwrap();
        let change = |old: Option<Value>, new: Option<Value>| {
            let (old, new) = (old.map(image), new.map(image));
            channel.notice(old.as_deref(), new.as_deref()).send();
        };
        let listen = |filter: Value| channel.listen(&Filter::from_json(&filter).unwrap());
        let room_1 = listen(json!({"room": 1, "n": {"$gt": 5}}));
        let rooms = listen(json!({"room": {"$in": [2, 3]}}));
        let tags = listen(json!({"tags": "a"}));
        let all = listen(json!({"n": {"$gt": 5}}));
        let missing = listen(json!({"room": null}));
        let check = |old: Option<Value>, new: Option<Value>, want: [bool; 5]| {
            let listeners = [&room_1, &rooms, &tags, &all, &missing];
            listeners.iter().for_each(|listener| listener.reset());
            change(old, new);
            let got = listeners.map(|listener| listener.slot.is_due.load(Ordering::SeqCst));
            assert_eq!(got, want);
        };
        check(None, Some(json!({"room": 1})), [true, false, false, true, true]);
        check(Some(json!({"room": 3})), None, [false, true, false, true, true]);
        check(Some(json!({"room": 1})), Some(json!({"room": 2})), [true, true, false, true, true]);
        check(None, Some(json!({"tags": ["b", "a"]})), [false, false, true, true, true]);
        check(None, Some(json!({"room": [1, 9]})), [true, false, false, true, true]);
        drop((room_1, rooms, tags, all, missing));
        assert!(channel.slots.lock().by_value.is_empty() && channel.slots.lock().paths.is_empty());
        // Whoever begins to listen after a notice was made hears of it.
        let notice = channel.notice(None, None);
        let late = listen(json!({"room": 1}));
        notice.send();
        assert!(late.slot.is_due.load(Ordering::SeqCst));
    }
}
