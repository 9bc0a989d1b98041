//! Indexes that would help, named and made. No test waits: the clock moves when it is told to.

use std::{sync::Arc, time::Duration};

use hearth_jsonstore::{
    Advice, AdviceAction, AutoIndex, Collection, Filter, Index, Options, Sort, Store, block_on,
    testing::{SimEnv, SimVfs, hooks, small_options},
};
use serde_json::{Value, json};

const DOCUMENTS: i64 = 1000;
const HOUR: Duration = Duration::from_secs(3600);
const LOOK: Duration = Duration::from_secs(61);

struct Machine {
    vfs: SimVfs,
    env: Arc<SimEnv>,
    store: Store,
    people: Collection,
}

impl Machine {
    fn new(set: impl Fn(&mut Options)) -> Self {
        let (vfs, env) = (SimVfs::new(), Arc::new(SimEnv::new(1)));
        let machine = Self::open(vfs, env, set);
        for id in 0..DOCUMENTS {
            let person = json!({
                "_id": id, "country": id % 50, "group": id % 15, "state": id % 7, "year": id % 97,
                "name": format!("n{}", id * 7919 % DOCUMENTS), "tags": [id % 3, "x"],
            });
            block_on(machine.people.insert(&person)).unwrap();
        }
        machine
    }

    fn open(vfs: SimVfs, env: Arc<SimEnv>, set: impl Fn(&mut Options)) -> Self {
        let mut options = small_options(&vfs, &env);
        set(&mut options);
        let store = block_on(Store::open(options)).unwrap();
        let people = store.collection("people").unwrap();
        Self { vfs, env, store, people }
    }

    fn reopened(self, set: impl Fn(&mut Options)) -> Self {
        let Self { vfs, env, store, .. } = self;
        block_on(store.close()).unwrap();
        Self::open(vfs, env, set)
    }

    /// Asks so often, with different values; how many documents came.
    fn ask(&self, times: i64, query: impl Fn(i64) -> (Value, Value)) -> usize {
        let answer = |i| {
            let (filter, sort) = query(i);
            let find = self.people.find(Filter::from_json(&filter).unwrap());
            let find = match sort {
                Value::Null => find,
                sort => find.sort(Sort::from_json(&sort).unwrap()).limit(5),
            };
            block_on(find.collect()).unwrap().len()
        };
        (0..times).map(answer).sum()
    }

    fn advice(&self) -> Vec<Advice> {
        block_on(self.store.advice()).unwrap()
    }

    /// The fields of indexes that would help.
    fn wanted(&self) -> Vec<Value> {
        let all = self.advice();
        let create = all.iter().filter(|advice| advice.action == AdviceAction::Create);
        create.map(|advice| advice.index.to_json()["fields"].clone()).collect()
    }

    /// Lets the background look, and do what it decides.
    fn look(&self) {
        self.env.advance(LOOK);
        for _ in 0..20_000 {
            hooks::step_log(&self.store);
            if !hooks::step_indexes(&self.store) && !hooks::has_index_jobs(&self.store) {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn indexes(&self) -> Vec<String> {
        self.people.indexes().into_iter().map(|info| info.name).collect()
    }
}

fn by_country(i: i64) -> (Value, Value) {
    (json!({"country": i % 50}), Value::Null)
}

#[test]
fn an_index_is_suggested_and_helps() {
    let machine = Machine::new(|_| {});
    assert_eq!(machine.wanted(), Vec::<Value>::new());
    let query = |i: i64| {
        let filter = json!({"year": {"$gte": i % 90}, "country": i % 50, "state": {"$in": [1, 2]}});
        (filter, json!([{"name": -1}]))
    };
    machine.ask(4, query);
    assert_eq!(machine.wanted(), Vec::<Value>::new(), "too few to speak of");
    let before = machine.ask(4, query);
    // Equality, sort, range.
    let fields = json!([{"country": 1}, {"state": 1}, {"name": -1}, {"year": 1}]);
    assert_eq!(machine.wanted(), [fields]);
    let advice = machine.advice().remove(0);
    assert_eq!(advice.queries.len(), 1);
    let shape = &advice.queries[0];
    assert_eq!((shape.executions, shape.examined), (8, 8 * DOCUMENTS as u64));
    assert!(!shape.shape.contains("n1") && shape.shape.contains("\"country\" = Number"));
    assert!(advice.rows_saved > 7 * DOCUMENTS as u64, "{advice:?}");

    block_on(machine.people.create_index(advice.index)).unwrap();
    assert_eq!(machine.ask(8, query), 2 * before, "the same answers");
    let uses = machine.people.indexes()[0].uses;
    assert_eq!(uses, 8);
    assert_eq!(machine.wanted(), Vec::<Value>::new(), "it is there now");
    // What is not asked for any more is forgotten.
    machine.ask(8, |i| (json!({"name": format!("n{i}")}), Value::Null));
    assert_eq!(machine.wanted().len(), 1);
    machine.env.advance(5 * HOUR);
    assert_eq!(machine.wanted(), Vec::<Value>::new());
}

#[test]
fn one_index_for_several_shapes() {
    let machine = Machine::new(|_| {});
    machine.ask(10, |i| (json!({"country": i % 50, "state": i % 7}), Value::Null));
    machine.ask(10, by_country);
    machine.ask(10, |i| (json!({"country": i % 50, "year": {"$lt": 3}}), Value::Null));
    let wanted = machine.wanted();
    assert_eq!(wanted.len(), 2, "{wanted:?}");
    let fields: Vec<Value> = wanted.iter().map(|fields| fields[0].clone()).collect();
    assert_eq!(fields, [json!({"country": 1}), json!({"country": 1})]);
    // Nothing is gained where nearly everything matches, or where an index cannot look.
    machine.ask(10, |_| (json!({"state": {"$gte": 1}, "name": {"$regex": "9$"}}), Value::Null));
    machine.ask(10, |_| (json!({"$or": [{"year": 1}, {"name": "n1"}]}), Value::Null));
    assert_eq!(machine.wanted(), wanted);
    // One field of an index may be an array.
    machine.ask(10, |i| (json!({"tags": i % 3, "name": format!("n{i}")}), Value::Null));
    assert!(machine.wanted().contains(&json!([{"name": 1}, {"tags": 1}])));
}

#[test]
fn indexes_that_do_nothing_are_named() {
    let machine = Machine::new(|_| {});
    block_on(async {
        let people = &machine.people;
        people.create_index(Index::on("country")).await?;
        people.create_index(Index::on("country").and("state")).await?;
        people.create_index(Index::on_descending("state")).await?;
        people.create_index(Index::on("_id").and("name").unique().name("kept")).await?;
        people.create_index(Index::on("year").sparse()).await?;
        people.create_index(Index::on("year").and("name").sparse()).await
    })
    .unwrap();
    let named = || {
        let all = machine.advice().into_iter();
        all.map(|advice| {
            (advice.action, advice.index.to_json()["name"].as_str().unwrap().to_owned())
        })
        .collect::<Vec<_>>()
    };
    let redundant = (AdviceAction::DropRedundant, "country".to_owned());
    assert_eq!(named(), std::slice::from_ref(&redundant));
    machine.ask(200, |i| (json!({"country": i % 50, "state": i % 7}), Value::Null));
    assert_eq!(named(), std::slice::from_ref(&redundant), "an hour has to pass");
    machine.env.advance(HOUR);
    let mut want = vec![redundant];
    for name in ["country", "state_desc", "year", "year_name"] {
        want.push((AdviceAction::DropUnused, name.to_owned()));
    }
    assert_eq!(named(), want);
}

fn on(options: &mut Options) {
    options.auto_index = AutoIndex::On;
}

#[test]
fn an_index_makes_itself_and_never_refuses_a_document() {
    let machine = Machine::new(on);
    machine.ask(19, by_country);
    machine.look();
    assert_eq!(machine.indexes(), Vec::<String>::new(), "too few to act on");
    let expected = machine.ask(19, by_country);
    machine.look();
    assert_eq!(machine.indexes(), ["auto_country"]);
    let info = machine.people.indexes().remove(0);
    assert!(info.is_ready && info.is_automatic);
    assert_eq!(machine.ask(19, by_country), expected);
    assert_eq!(machine.people.indexes()[0].uses, 19);
    assert_eq!(machine.store.metrics().automatic_indexes, [1, 0]);
    block_on(machine.store.verify()).unwrap();

    // An index that a person made would refuse this.
    let large = json!({"_id": "large", "country": "x".repeat(2000)});
    block_on(machine.people.insert(&large)).unwrap();
    let is_found = |machine: &Machine| {
        let filter = Filter::from_json(&json!({"country": {"$gte": "x"}})).unwrap();
        block_on(machine.people.find(filter).count()).unwrap() == 1
    };
    assert!(is_found(&machine), "it is not in the index, which therefore is used no more");
    assert_eq!(machine.ask(19, by_country), expected);
    block_on(machine.store.verify()).unwrap();
    let machine = machine.reopened(on);
    assert_eq!(machine.indexes(), ["auto_country"]);
    assert!(is_found(&machine), "after an opening neither");
    assert_eq!(machine.ask(5, by_country), 5 * DOCUMENTS as usize / 50);
    assert_eq!(machine.people.indexes()[0].uses, 0);
    machine.look();
    assert_eq!(machine.indexes(), Vec::<String>::new(), "and it goes");
    assert!(is_found(&machine));
    // It cannot be built, and is not tried over and over.
    machine.ask(50, by_country);
    machine.look();
    assert_eq!(machine.store.metrics().automatic_indexes, [1, 1]);
    machine.ask(50, by_country);
    machine.look();
    assert_eq!(machine.store.metrics().automatic_indexes, [1, 1]);
    assert_eq!(machine.indexes(), Vec::<String>::new());
    block_on(machine.store.verify()).unwrap();
}

#[test]
fn automatic_indexes_are_bounded() {
    let set = |options: &mut Options| {
        on(options);
        options.auto_index_limits.indexes_max = 2;
    };
    let machine = Machine::new(set);
    block_on(machine.people.create_index(Index::on("state").and("name"))).unwrap();
    let ask_all = || {
        machine.ask(40, by_country);
        machine.ask(40, |i| (json!({"year": i % 97}), Value::Null));
        machine.ask(40, |i| (json!({"name": format!("n{i}")}), Value::Null));
    };
    ask_all();
    machine.look();
    assert_eq!(machine.indexes().len(), 2, "one at a time: {:?}", machine.indexes());
    machine.look();
    assert_eq!(machine.indexes().len(), 2, "it has to cool down");
    machine.env.advance(Duration::from_secs(600));
    ask_all();
    machine.look();
    assert_eq!(machine.indexes().len(), 3);
    machine.env.advance(Duration::from_secs(600));
    ask_all();
    machine.look();
    assert_eq!(machine.indexes().len(), 3, "two are enough");

    // What nobody uses goes, unless a person made it.
    let days = Duration::from_secs(8 * 24 * 3600);
    machine.look();
    machine.env.advance(days);
    assert!(machine.indexes().contains(&"auto_name".to_owned()), "the most selective one");
    machine.ask(1, |i| (json!({"name": format!("n{i}")}), Value::Null));
    machine.look();
    assert_eq!(machine.indexes(), ["state_name", "auto_name"]);
    machine.env.advance(days);
    machine.look();
    assert_eq!(machine.indexes(), ["state_name"]);
    block_on(machine.store.verify()).unwrap();
}

#[test]
fn a_longer_automatic_index_takes_the_place_of_a_shorter_one() {
    let machine = Machine::new(on);
    let by_group = |i: i64| (json!({"group": i % 15}), Value::Null);
    let expected = machine.ask(45, by_group);
    machine.look();
    assert_eq!(machine.indexes(), ["auto_group"]);
    machine.env.advance(Duration::from_secs(600));
    machine.ask(400, |i| (json!({"group": i % 15, "name": format!("n{i}")}), Value::Null));
    machine.look();
    machine.look();
    assert_eq!(machine.indexes(), ["auto_group_name"]);
    assert_eq!(machine.ask(45, by_group), expected);
}

#[test]
fn off_is_off_and_the_same_queries_give_the_same_advice() {
    let machine = Machine::new(|options| options.auto_index = AutoIndex::Off);
    machine.ask(50, by_country);
    assert_eq!(machine.advice(), []);
    assert_eq!(machine.store.metrics().query_shapes, 0);
    let run = || {
        let machine = Machine::new(|_| {});
        machine.ask(9, by_country);
        machine.ask(9, |i| (json!({"year": i % 97}), Value::Null));
        machine.advice().iter().map(|advice| advice.json().to_string()).collect::<Vec<_>>()
    };
    let first = run();
    assert_eq!(first.len(), 2);
    assert_eq!(first, run());
}

#[test]
fn shapes_are_bounded() {
    let machine = Machine::new(|_| {});
    for i in 0..600 {
        machine.ask(1, |_| (json!({ (format!("field{i}")): {"$gt": 5} }), Value::Null));
    }
    assert_eq!(machine.store.metrics().query_shapes, 512);
    assert!(machine.store.metrics().wasted_rows >= 600 * DOCUMENTS as u64);
}
