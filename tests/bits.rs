//! The bits of whole steps, held against a record: `record/bits.csv`.
//!
//! Other tests say what is right. This one says what has changed: losses, predictions, gradients, states and
//! momenta of two steps must keep every bit, with any number of threads, and a plan must not get larger. A
//! change that rounds differently on purpose records anew, and its diff shows which rows it touched:
//!
//! ```text
//! NUNATAK_RECORD_BITS=1 cargo test -p nunatak-tests --test bits
//! ```
//!
//! This rewrites the rows of the levels that the machine has, and keeps the others.
//!
//! **What the bits depend on.** The case and the instruction-set level, nothing else of the machine: algorithms
//! are chosen by shape, pass and memory setting; the parts of a sum are cut by the shape; `exp`, `log` and `sqrt`
//! are libm's, which are compiled in and ask no CPU; no instruction whose result differs from CPU to CPU
//! (approximate reciprocals) is used. So two CPUs of one level have the same rows. Of the build they depend on:
//! - the feature `scalar`, and targets without SIMD that imply it: the portable level then adds in another order,
//!   and its rows do not hold;
//! - the version of libm;
//! - the feature `flush-denormals` where a number is denormal. No number of these cases that reaches a hash is:
//!   the rows hold with and without the feature.

use nunatak_core::fnv::Fnv;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A line is a case. The fields are the first columns of the record.
///
/// - recipe: a network's name, or its layers, widths and stem (kernel, stride, padding, whether it pools)
/// - images: height x width, of three channels
/// - trainable: `all`, `none`, or names of parameters by prefix
/// - norms: what frozen normalisations do in train mode
/// - update: parameters are updated after the backward walk or during it
/// - fuse: steps that follow each other become one (`fused`) or stay alone (`single`)
/// - sgd: learning rate, momentum, weight decay; `nesterov`
const CASES: &str = "
resnet8 classes=10,32x32,4,train,all,updating,fast,after,fused,sum,lr=0.01 momentum=0.9
resnet8 classes=10,32x32,4,train,all,updating,small,during,fused,sum,lr=0.01 momentum=0.9
resnet8 classes=10,32x32,4,train,all,updating,fast,after,single,sum,lr=0.01 momentum=0.9
resnet8 classes=10,32x32,16,train,all,updating,fast,during,fused,cross-entropy,lr=0.01 momentum=0.9
resnet8 classes=10,32x32,4,eval,all,updating,fast,after,fused,cross-entropy,lr=0.01 momentum=0.9
resnet8 classes=10,32x32,4,train,fc,updating,fast,after,fused,mse,lr=0.01 momentum=0.9
resnet8 classes=10,32x32,4,train,layer3 fc,fixed,fast,after,fused,cross-entropy,lr=0.01 momentum=0.9
resnet8 classes=10,32x32,3,train,all,updating,small,after,fused,cross-entropy,lr=0.01 momentum=0.9 decay=0.0005 nesterov
layers=1x1x1 widths=17x33x50 stem=3x1x1x0 classes=5,21x17,3,train,all,updating,fast,after,fused,cross-entropy,lr=0.01 momentum=0.9
layers=1x1x1 widths=17x33x50 stem=3x1x1x0 classes=5,21x17,3,train,all,updating,small,during,single,mse,lr=0.01 momentum=0.9 decay=0.0005
layers=1x1x1 widths=17x33x50 stem=3x1x1x0 classes=5,21x17,2,eval,layer2 fc,updating,fast,after,single,sum,lr=0.01
layers=1x1x1 widths=17x33x50 stem=3x1x1x0 classes=5,21x17,3,train,fc,fixed,small,during,fused,probabilities,lr=0.01 momentum=0.9
layers=2x1 widths=6x17 stem=7x2x3x1 classes=5,37x29,2,train,all,updating,fast,after,fused,cross-entropy,lr=0.01 momentum=0.9
resnet18 classes=10,64x64,2,train,all,updating,fast,after,fused,sum,lr=0.01 momentum=0.9
resnet18 classes=10,64x64,1,train,all,updating,small,during,fused,cross-entropy,lr=0.01 momentum=0.9
resnet18 classes=10,64x64,2,train,all,updating,fast,after,single,cross-entropy,lr=0.01 momentum=0.9
resnet18 classes=10,64x64,2,train,fc,fixed,fast,after,fused,cross-entropy,lr=0.01 momentum=0.9
resnet18 classes=10,64x64,1,train,layer4 fc,updating,fast,during,fused,sum,lr=0.01 momentum=0.9
resnet18 classes=10,64x64,1,eval,all,updating,small,after,fused,mse,lr=0.01 momentum=0.9
resnet18 classes=10,64x64,2,eval,none,updating,fast,after,fused,mse,lr=0.01
resnet18 classes=10,224x224,1,train,layer4 fc,fixed,fast,during,fused,cross-entropy,lr=0.01 momentum=0.9
resnet34 classes=10,64x64,1,train,all,updating,fast,during,fused,sum,lr=0.01 momentum=0.9
resnet34 classes=10,64x64,1,train,layer4 fc,fixed,small,after,fused,cross-entropy,lr=0.01 momentum=0.9
";

/// The columns of the record.
const HEADER: &str = "recipe,images,batch,mode,trainable,norms,memory,update,fuse,loss,sgd,level,\
bytes with 1 thread,bytes with 2,bytes with 3,losses,predictions,gradients,state,momenta";

/// The columns that say what was computed, the level among them.
const KEY: usize = 12;
/// The columns of planned bytes.
const BYTES: usize = 3;

/// How a step is described in the record.
#[derive(Clone, Copy)]
struct Case<'a> {
    line: &'a str,
    recipe: &'a str,
    height: usize,
    width: usize,
    batch: usize,
    mode: &'a str,
    trainable: &'a str,
    norms: &'a str,
    memory: &'a str,
    update: &'a str,
    fuse: &'a str,
    loss: &'a str,
    sgd: &'a str,
}

impl<'a> Case<'a> {
    fn parse(line: &'a str) -> Case<'a> {
        let fields: Vec<_> = line.split(',').collect();
        let &[recipe, images, batch, mode, trainable, norms, memory, update, fuse, loss, sgd] = &fields[..] else {
            panic!("a case has {} fields, not {}: {line}", KEY - 1, fields.len());
        };
        let [height, width] = numbers(images)[..] else { panic!("images are height x width: {line}") };
        let batch = batch.parse().expect("a batch");
        Case { line, recipe, height, width, batch, mode, trainable, norms, memory, update, fuse, loss, sgd }
    }

    /// The value of `key=value` in a field.
    fn setting(field: &'a str, key: &str) -> Option<&'a str> {
        field.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// Networks of millions of parameters: with fewer numbers of threads, and not on an emulator.
    fn large(&self) -> bool {
        self.recipe.starts_with("resnet18") || self.recipe.starts_with("resnet34")
    }
}

/// The numbers of `2x3x4`.
fn numbers(text: &str) -> Vec<usize> {
    text.split('x').map(|n| n.parse().unwrap_or_else(|_| panic!("not numbers: {text}"))).collect()
}

/// FNV-1a of 64 bits over bytes in order; numbers are taken as their little-endian bytes.
struct Hash(Option<Fnv>);

impl Hash {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.get_or_insert_default().write(bytes);
    }
    fn floats(&mut self, values: &[f32]) {
        values.iter().for_each(|v| self.bytes(&v.to_bits().to_le_bytes()));
    }
}

/// Nothing was hashed: `-`.
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 {
            Some(hash) => write!(f, "{:016x}", hash.finish()),
            None => f.write_str("-"),
        }
    }
}

/// What two steps gave. Everything is in PyTorch's shapes and PyTorch's order.
struct Seen {
    /// Of both steps.
    losses: Vec<f32>,
    /// Of both steps.
    predictions: Hash,
    /// Of both steps; of none where the update is during the walk.
    gradients: Hash,
    /// Every entry of the state dict after the steps; counts as `i64`.
    state: Hash,
    /// Of every parameter that has one, after the steps.
    momenta: Hash,
}

impl Seen {
    fn new() -> Seen {
        let [predictions, gradients, state, momenta] = [const { Hash(None) }; 4];
        Seen { losses: Vec::new(), predictions, gradients, state, momenta }
    }

    /// The last columns of a row.
    fn columns(&self) -> Vec<String> {
        let mut losses = Hash(None);
        losses.floats(&self.losses);
        [&losses, &self.predictions, &self.gradients, &self.state, &self.momenta].map(Hash::to_string).to_vec()
    }
}

/// The library's part: all that knows its types.
mod library {
    use super::{Case, Seen, numbers};
    use nunatak_core::Update;
    use nunatak_core::program::{EntryKind, Program};
    use nunatak_core::rng::Generator;
    use nunatak_nn::ops::CrossEntropyOptions;
    use nunatak_nn::optim::{Optimizer, Sgd};
    use nunatak_nn::plan::Step;
    use nunatak_nn::record::{Graph, Loss, Usual};
    use nunatak_nn::select::{Mode, NormPolicy};
    use nunatak_nn::step::Trainer;
    use nunatak_nn::{Level, Memory, Threads};
    use nunatak_nn::{Recipe, Stem};

    /// The levels of this machine.
    pub(super) fn levels() -> Vec<&'static str> {
        Level::available().map(|level| level.name()).collect()
    }

    /// The bytes that a case needs with so many threads: without the lasting state, which lay outside the block
    /// when they were recorded, and without the gap that aligns a running variance behind its mean.
    pub(super) fn bytes(case: &Case, threads: usize) -> usize {
        let program = program(case, threads).0;
        let variances = program.entries().filter(|id| program.entry(*id).kind() == EntryKind::RunningVar);
        let gap = |c: usize| 2 * c.next_multiple_of(16) - (2 * c).next_multiple_of(16);
        let gaps: usize = variances.map(|id| gap(program.entry(id).numbers())).sum();
        Trainer::bytes(&program) - 4 * (program.state().len() + gaps)
    }

    /// Two steps of a case.
    pub(super) fn run(case: &Case, level: &str, threads: usize) -> Seen {
        let level = Level::by_name(level).expect("a level of this machine");
        let team = Threads::oversubscribed(threads).expect("threads");
        let (program, values) = program(case, threads);
        // What a caller hands over is not zero, and nothing may depend on what it is.
        let mut memory = vec![0xa5; Trainer::bytes(&program)];
        let mut trainer = Trainer::new(program, &mut memory, level, team).expect("enough memory");
        trainer.init(0);
        let (optimizer, trains) = (optimizer(case), trainer.trains());
        let mut generator = Generator::manual_seed(1);
        let mut rand = |len: usize| (0..len).map(|_| generator.rand_f32()).collect::<Vec<_>>();
        let (classes, during) = (recipe(case.recipe).classes, trainer.updates_during());
        let mut seen = Seen::new();
        for step in 0..2 {
            trainer.set_input(values.data, &rand(case.batch * 3 * case.height * case.width)).expect("images");
            let labels = values.labels.expect("labels");
            match case.loss {
                "cross-entropy" => {
                    let indices: Vec<i64> = (0..case.batch).map(|i| ((7 * i + 3 * step + 1) % classes) as i64).collect();
                    trainer.set_labels(labels, &indices)
                }
                _ => trainer.set_input(labels, &rand(case.batch * classes)),
            }
            .expect("labels");
            trainer.forward().expect("forward");
            let mut prediction = vec![f32::NAN; case.batch * classes];
            trainer.value(values.prediction, &mut prediction).expect("a prediction");
            seen.predictions.floats(&prediction);
            seen.losses.push(trainer.scalar(values.loss.expect("a loss")).expect("a loss"));
            if trains && during {
                trainer.backward_and_step(optimizer).expect("a step");
            } else if trains {
                trainer.zero_grad();
                trainer.backward().expect("backward");
                gradients(&trainer, &mut seen);
                trainer.step(optimizer).expect("a step");
            }
        }
        lasting(&trainer, &mut seen);
        seen
    }

    fn gradients(trainer: &Trainer, seen: &mut Seen) {
        let ids: Vec<_> = trainer.gradients().collect();
        let mut all = Vec::new();
        for id in ids {
            let mut room = vec![f32::NAN; trainer.program().entry(id).numbers()];
            trainer.gradient(id, &mut room).expect("a gradient");
            all.extend(room);
        }
        seen.gradients.floats(&all);
    }

    /// State and momenta.
    fn lasting(trainer: &Trainer, seen: &mut Seen) {
        let program = trainer.program();
        for id in program.entries() {
            let entry = program.entry(id);
            if entry.kind() == EntryKind::Count {
                seen.state.bytes(&trainer.count(id).to_le_bytes());
                continue;
            }
            let mut room = vec![f32::NAN; entry.numbers()];
            trainer.entry(id, &mut room).expect("an entry");
            seen.state.floats(&room);
            if trainer.has_momentum(id) {
                trainer.momentum(id, &mut room).expect("a momentum");
                seen.momenta.floats(&room);
            }
        }
    }

    fn program(case: &Case, threads: usize) -> (Program<'static>, Usual) {
        let recipe = recipe(case.recipe);
        let graph = Graph::new();
        let loss = match case.loss {
            "sum" => Loss::Sum,
            "mse" => Loss::MeanSquaredError,
            "cross-entropy" => Loss::CrossEntropy(CrossEntropyOptions::default()),
            "probabilities" => Loss::CrossEntropyProbabilities(CrossEntropyOptions::default()),
            other => panic!("no loss: {other}"),
        };
        let values = graph.usual([case.batch, 3, case.height, case.width], loss, |g, x| recipe.record(g, x)).expect("a recording");
        let trained = case.trainable.replace(' ', ",");
        let program = Step::new(&graph)
            .root(values.root)
            .keep(&[values.prediction, values.features])
            .train(trained.as_str())
            .mode(choice(case.mode, &[("train", Mode::Train), ("eval", Mode::Eval)]))
            .norm_policy(choice(case.norms, &[("updating", NormPolicy::Updating), ("fixed", NormPolicy::Fixed)]))
            .threads(threads)
            .memory(choice(case.memory, &[("small", Memory::Small), ("fast", Memory::Fast)]))
            .update(choice(case.update, &[("after", Update::After), ("during", Update::During)]))
            .fuse(choice(case.fuse, &[("fused", true), ("single", false)]))
            .momentum(Case::setting(case.sgd, "momentum").is_some())
            .plan();
        (program.expect("a plan"), values)
    }

    fn recipe(text: &str) -> Recipe {
        let setting = |key| Case::setting(text, key).unwrap_or_else(|| panic!("no {key}: {text}"));
        let classes = setting("classes").parse().expect("classes");
        match text.split(' ').next() {
            Some("resnet8") => Recipe::resnet8(classes),
            Some("resnet18") => Recipe::resnet18(classes),
            Some("resnet34") => Recipe::resnet34(classes),
            _ => {
                let [kernel, stride, pad, pool] = numbers(setting("stem"))[..] else { panic!("a stem has four numbers: {text}") };
                let stem = Stem { kernel, stride, pad, pool: pool == 1 };
                Recipe::new(&numbers(setting("layers")), &numbers(setting("widths")), stem, 3, classes).expect("a recipe")
            }
        }
    }

    fn optimizer(case: &Case) -> Optimizer<'static> {
        let number = |key| Case::setting(case.sgd, key).map_or(0.0, |v| v.parse().expect("a number"));
        let nesterov = case.sgd.split(' ').any(|word| word == "nesterov");
        let settings = Sgd { momentum: number("momentum"), weight_decay: number("decay"), nesterov, ..Sgd::new(number("lr")) };
        Optimizer::new(settings).expect("settings")
    }

    fn choice<T: Copy>(word: &str, choices: &[(&str, T)]) -> T {
        choices.iter().find(|(name, _)| *name == word).unwrap_or_else(|| panic!("not a choice: {word}")).1
    }
}

/// Rows by case and level.
type Record = BTreeMap<(String, String), Vec<String>>;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("record/bits.csv")
}

fn cases() -> Vec<Case<'static>> {
    CASES.trim().lines().map(Case::parse).collect()
}

fn parse(text: &str) -> Record {
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(HEADER), "the columns of the record");
    let columns = HEADER.split(',').count();
    let mut record = Record::new();
    for line in lines {
        let mut fields: Vec<String> = line.split(',').map(String::from).collect();
        assert_eq!(fields.len(), columns, "columns of a row: {line}");
        let values = fields.split_off(KEY);
        let level = fields.pop().expect("a level");
        assert!(record.insert((fields.join(","), level), values).is_none(), "two rows of one case: {line}");
    }
    record
}

/// The record as text: cases in their order, levels by name.
fn print(record: &Record) -> String {
    let mut text = format!("{HEADER}\n");
    for case in cases() {
        for ((_, level), values) in record.range((case.line.to_string(), String::new())..).take_while(|((line, _), _)| line == case.line) {
            text += &format!("{},{level},{}\n", case.line, values.join(","));
        }
    }
    text
}

/// Whether the record is to be written.
fn recording() -> bool {
    std::env::var("NUNATAK_RECORD_BITS").is_ok_and(|v| v == "1")
}

/// A line that is seen without `--nocapture`.
fn say(what: &str) {
    writeln!(std::io::stderr(), "bits: {what}").expect("the error output");
}

/// A row of a case, the same for every number of threads.
fn row(case: &Case, level: &str) -> Vec<String> {
    let mut row: Vec<String> = [1, 2, 3].iter().map(|&threads| library::bytes(case, threads).to_string()).collect();
    let mut one = None;
    for &threads in if case.large() { &[1, 2][..] } else { &[1, 2, 3] } {
        let seen = library::run(case, level, threads);
        let what = format!("{} at {level} with {threads} threads", case.line);
        assert!(seen.losses.iter().all(|loss| loss.is_finite()), "{what}: losses {:?}", seen.losses);
        let columns = seen.columns();
        assert_eq!(one.get_or_insert_with(|| columns.clone()), &columns, "{what} (right) differs from 1 thread (left)");
    }
    row.extend(one.expect("a run"));
    row
}

/// What differs between a row and its record: other bits, more bytes.
fn differences(due: &[String], got: &[String]) -> Vec<String> {
    let names = HEADER.split(',').skip(KEY);
    let number = |text: &String| text.parse::<usize>().unwrap_or_else(|_| panic!("not bytes: {text}"));
    let differs = |(i, (due, got)): (usize, (&String, &String))| if i < BYTES { number(got) > number(due) } else { got != due };
    let all = names.zip(due.iter().zip(got)).enumerate();
    all.filter(|(i, (_, pair))| differs((*i, *pair))).map(|(_, (name, (due, got)))| format!("{name}: {due} recorded, {got} now")).collect()
}

/// Rewrites the rows of this machine's levels.
fn write_record() {
    let old = std::fs::read_to_string(path()).map(|text| parse(&text)).unwrap_or_default();
    let levels = library::levels();
    let (mut new, mut changed) = (old.clone(), 0);
    for case in cases() {
        for level in &levels {
            let key = (case.line.to_string(), (*level).to_string());
            let row = row(&case, level);
            changed += usize::from(old.get(&key) != Some(&row));
            new.insert(key, row);
        }
    }
    std::fs::write(path(), print(&new)).expect("the record can be written");
    say(&format!("recorded {} cases at {}; {changed} rows are new or changed", cases().len(), levels.join(", ")));
}

/// What differs, case by case, on all cores.
fn compare(work: &[(Case, &str, &Vec<String>)]) -> Vec<String> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let some = || {
        while let Some((case, level, due)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
            let now = differences(due, &row(case, level));
            found.lock().expect("no panic").extend(now.into_iter().map(|d| format!("{} at {level}: {d}", case.line)));
        }
    };
    std::thread::scope(|scope| (0..std::thread::available_parallelism().map_or(1, usize::from)).for_each(|_| drop(scope.spawn(some))));
    let mut found = found.into_inner().expect("no panic");
    found.sort();
    found
}

#[test]
fn steps_have_the_recorded_bits() {
    if recording() {
        return write_record();
    }
    let how = "NUNATAK_RECORD_BITS=1 cargo test -p nunatak-tests --test bits";
    let text = std::fs::read_to_string(path()).unwrap_or_else(|e| panic!("{}: {e}; record it by {how}", path().display()));
    let (record, levels) = (parse(&text), library::levels());
    let (mut work, mut unrecorded, mut left_out) = (Vec::new(), BTreeMap::<&str, usize>::new(), 0);
    for case in cases() {
        if nunatak_tests::emulated() && case.large() {
            left_out += 1;
            continue;
        }
        for level in &levels {
            match record.get(&(case.line.to_string(), (*level).to_string())) {
                None => *unrecorded.entry(level).or_default() += 1,
                Some(due) => work.push((case, *level, due)),
            }
        }
    }
    let mut wrong = compare(&work);
    let mut missing: BTreeMap<&str, usize> = BTreeMap::new();
    record.keys().filter(|(_, level)| !levels.contains(&level.as_str())).for_each(|(_, level)| *missing.entry(level).or_default() += 1);
    for (level, rows) in missing {
        say(&format!("SKIPPED {rows} rows of {level}, which this machine has not got"));
    }
    if left_out > 0 {
        say(&format!("SKIPPED {left_out} cases of large networks, on an emulator"));
    }
    say(&format!("{} rows compared, at {}", work.len(), levels.join(", ")));
    if nunatak_tests::emulated() {
        // A level that no machine of ours has is only seen under emulation, where nothing is recorded.
        unrecorded.retain(|level, cases| {
            let recorded = record.keys().any(|(_, of)| of == level);
            if !recorded {
                say(&format!("SKIPPED {cases} cases at {level}, of which there is no record yet"));
            }
            recorded
        });
    }
    wrong.extend(unrecorded.into_iter().map(|(level, cases)| format!("{level}: {cases} cases have no row")));
    assert!(wrong.is_empty(), "{} differences; where they are meant, record anew by {how}\n{}", wrong.len(), wrong.join("\n"));
}

/// Every row is a case's, every recorded level has all cases, and the file is as it would be written.
#[test]
fn the_record_is_whole() {
    if recording() {
        return; // it is being written
    }
    let text = std::fs::read_to_string(path()).expect("the record");
    let record = parse(&text);
    assert_eq!(print(&record), text, "rows of cases that do not exist, or another order");
    let mut levels: BTreeMap<&str, usize> = BTreeMap::new();
    record.keys().for_each(|(_, level)| *levels.entry(level).or_default() += 1);
    assert!(levels.len() >= 2 && levels.values().all(|&rows| rows == cases().len()), "{} cases; rows: {levels:?}", cases().len());
}

/// A test that can't fail is worth nothing: one bit more, or one byte, is seen.
#[test]
fn the_comparison_sees_a_bit_and_a_byte() {
    let hash = |values: &[f32]| {
        let mut hash = Hash(None);
        hash.floats(values);
        hash.to_string()
    };
    // FNV-1a of no bytes and of "a", from its authors' table.
    let known = |bytes: &[u8]| {
        let mut hash = Hash(None);
        hash.bytes(bytes);
        hash.to_string()
    };
    assert_eq!((known(b"").as_str(), known(b"a").as_str()), ("cbf29ce484222325", "af63dc4c8601ec8c"));
    assert_ne!(hash(&[1.0, 0.0]), hash(&[1.0, -0.0]));
    let row = |bytes: usize, last: String| {
        let mut row = vec![bytes.to_string(); BYTES];
        row.extend([const { String::new() }; 4]);
        row.push(last);
        row
    };
    let (a, b) = (hash(&[1.0]), hash(&[1.0 + f32::EPSILON]));
    assert!(differences(&row(100, a.clone()), &row(100, a.clone())).is_empty());
    assert!(differences(&row(100, a.clone()), &row(99, a.clone())).is_empty(), "fewer bytes are welcome");
    assert_eq!(differences(&row(100, a.clone()), &row(101, a.clone())).len(), BYTES);
    assert_eq!(differences(&row(100, a.clone()), &row(100, b.clone())), [format!("momenta: {a} recorded, {b} now")]);
}
