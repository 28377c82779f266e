//! Part one: PyTorch's autograd tutorial, each number beside the one that PyTorch gave.
//!
//! The goldens come from PyTorch 2.15 and torchvision 0.29 on a CPU, in float32: the lines that the
//! demo prints behind `>>>`, run in Python.

use super::Machine;
use crate::failure::Failure;
use crate::outln;
use crate::setup::{Network, Plan, Setup, parameter_numbers, parameters};
use nunatak_core::rng::Generator;
use nunatak_nn::{Loss, Mode, Optimizer, Program, Recipe, Sgd, Trainer};

/// ImageNet's classes.
const CLASSES: usize = 1000;
/// Classes of the new head.
const NEW_CLASSES: usize = 10;
/// Beyond this it is no rounding. PyTorch's own float32 lies up to 8e-5 from float64 here.
const TOLERANCE: f64 = 1e-3;

/// A planned step of the tutorial.
pub(super) struct Step {
    pub(super) plan: Plan,
}

impl Step {
    /// Every parameter of ResNet18 is trained.
    pub(super) fn full(machine: &Machine) -> Result<Step, Failure> {
        Step::new(machine, Recipe::resnet18(CLASSES), "all")
    }

    /// Everything is frozen but a new `fc`.
    pub(super) fn frozen(machine: &Machine) -> Result<Step, Failure> {
        Step::new(machine, Recipe::resnet18(NEW_CLASSES), "head")
    }

    fn new(machine: &Machine, recipe: Recipe, trainable: &str) -> Result<Step, Failure> {
        let setup = Setup {
            mode: Mode::Train,
            trainable: trainable.into(),
            loss: Loss::Sum,
            threads: machine.threads.count(),
            momentum: true,
            ..Setup::inference(Network::Recipe(recipe), 1, 64)
        };
        Ok(Step { plan: setup.plan()? })
    }

    /// A copy of the program, for a trainer.
    pub(super) fn program(&self) -> Program<'static> {
        self.plan.program.clone()
    }

    /// Bytes of the block that it needs.
    pub(super) fn bytes(&self) -> usize {
        Trainer::bytes(&self.plan.program)
    }

    /// `loss = (model(data) - labels).sum()`
    pub(super) fn forward(&self, trainer: &mut Trainer, inputs: &Inputs) -> Result<f32, Failure> {
        let values = &self.plan.values;
        trainer.set_input(values.data, &inputs.data)?;
        let (Some(labels), Some(loss)) = (values.labels, values.loss) else {
            return Err(Failure::Failed("the tutorial's step has no loss".into()));
        };
        trainer.set_input(labels, &inputs.labels)?;
        trainer.forward()?;
        Ok(trainer.scalar(loss)?)
    }
}

/// What goes into a step.
pub(super) struct Inputs {
    data: Vec<f32>,
    labels: Vec<f32>,
}

fn uniform(random: &mut Generator, count: usize) -> Vec<f32> {
    (0..count).map(|_| random.rand_f32()).collect()
}

/// Prints numbers in three columns and remembers the largest difference.
struct Table {
    worst: f64,
    count: usize,
}

impl Table {
    fn head(&self) -> Result<(), Failure> {
        outln!("    {:<30}{:>15}{:>15}{:>12}", "", "nunatak", "PyTorch", "difference")
    }
    fn row(&mut self, what: &str, got: f32, torch: f64) -> Result<(), Failure> {
        let difference = (f64::from(got) - torch).abs() / torch.abs();
        // A NaN must not hide behind a comparison.
        self.worst = if difference.is_nan() { f64::INFINITY } else { self.worst.max(difference) };
        self.count += 1;
        outln!("    {what:<30}{:>15}{:>15}{difference:>12.0e}", nine(f64::from(got)), nine(torch))
    }
}

/// A number with nine digits, as many as a float32 has.
fn nine(v: f64) -> String {
    let magnitude = if v == 0.0 { 0 } else { v.abs().log10().floor() as i32 };
    format!("{v:.*}", (8 - magnitude).clamp(0, 12) as usize)
}

/// The norm of a parameter's gradient, as `p.grad.norm()`.
fn gradient_norm(trainer: &Trainer, name: &str) -> Result<f32, Failure> {
    let id = trainer.entry_named(name)?;
    let mut gradient = vec![0.0; trainer.program().entry(id).numbers()];
    trainer.gradient(id, &mut gradient)?;
    Ok(gradient.iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>().sqrt() as f32)
}

/// The numbers of an entry of the state dict.
fn entry(trainer: &Trainer, name: &str) -> Result<Vec<f32>, Failure> {
    let id = trainer.entry_named(name)?;
    let mut values = vec![0.0; trainer.program().entry(id).numbers()];
    trainer.entry(id, &mut values)?;
    Ok(values)
}

/// Runs the tutorial; the inputs of both steps serve for timing.
pub(super) fn run(trainer: &mut Trainer, full: &Step, frozen: &Step) -> Result<[Inputs; 2], Failure> {
    let mut table = Table { worst: 0.0, count: 0 };
    let optimizer = Optimizer::new(Sgd { momentum: 0.9, ..Sgd::new(1e-2) })?;
    let inputs = forward_and_backward(trainer, full, &mut table)?;
    descend(trainer, full, &inputs, optimizer, &mut table)?;
    let few = train_a_head(trainer, frozen, &inputs, optimizer, &mut table)?;
    if table.worst > TOLERANCE {
        return Err(Failure::Failed(format!(
            "a number of the tutorial is off PyTorch's by {:.1e}, more than {TOLERANCE:.0e}: this is no rounding but a bug",
            table.worst
        )));
    }
    outln!("All {} numbers agree with PyTorch's; the largest difference is {:.0e}.", table.count, table.worst)?;
    Ok([inputs, few])
}

/// A model with random weights, its prediction and its gradients.
fn forward_and_backward(trainer: &mut Trainer, full: &Step, table: &mut Table) -> Result<Inputs, Failure> {
    outln!("1. PyTorch's autograd tutorial")?;
    outln!("------------------------------")?;
    outln!("Behind >>> stands what one writes in PyTorch. Below it stand nunatak's numbers,")?;
    outln!("those that PyTorch 2.15 gave for the same seeds, and the relative difference.")?;
    outln!("")?;

    outln!(">>> torch.manual_seed(0); model = torchvision.models.resnet18()")?;
    trainer.init(0);
    let [numbers, _] = parameter_numbers(trainer.program());
    outln!("    {numbers} numbers in {} parameters, drawn as torchvision draws them", parameters(trainer.program()).count())?;
    outln!(">>> torch.manual_seed(1); data = torch.rand(1, 3, 64, 64)")?;
    outln!(">>> labels = torch.rand(1, 1000)")?;
    let mut random = Generator::manual_seed(1);
    let inputs = Inputs { data: uniform(&mut random, 3 * 64 * 64), labels: uniform(&mut random, CLASSES) };

    outln!("")?;
    outln!("The forward pass. The model is in train mode, as torchvision makes it.")?;
    outln!(">>> prediction = model(data)")?;
    outln!(">>> loss = (prediction - labels).sum()")?;
    let loss = full.forward(trainer, &inputs)?;
    let mut prediction = vec![0.0; CLASSES];
    trainer.value(full.plan.values.prediction, &mut prediction)?;
    table.head()?;
    for (i, torch) in [0.315981776, 0.230452359, -0.268828839, 0.307489038].into_iter().enumerate() {
        table.row(&format!("prediction[0, {i}]"), prediction[i], torch)?;
    }
    table.row("loss", loss, -512.952026)?;

    outln!("")?;
    outln!("The backward pass gives every parameter its gradient; here are norms of some.")?;
    outln!(">>> loss.backward()")?;
    trainer.backward()?;
    for (name, torch) in [
        ("conv1.weight", 3290.07788),
        ("bn1.weight", 51.6525078),
        ("layer1.0.conv1.weight", 834.92041),
        ("layer2.0.downsample.0.weight", 194.133484),
        ("layer4.1.conv2.weight", 201.625504),
        ("fc.weight", 629.02124),
        ("fc.bias", 31.622776),
    ] {
        table.row(name, gradient_norm(trainer, name)?, torch)?;
    }
    outln!("    (PyTorch in float64: conv1 3290.06987, layer4.1.conv2 201.641923. Kinks of")?;
    outln!("    relu amplify rounding, so two float32 programs differ by about as much.)")?;
    outln!("")?;
    Ok(inputs)
}

/// A step of gradient descent, and the loss after it.
fn descend(trainer: &mut Trainer, full: &Step, inputs: &Inputs, optimizer: Optimizer, table: &mut Table) -> Result<(), Failure> {
    outln!("One step of gradient descent, and the same images again: the loss falls, and")?;
    outln!("batch normalisation has moved its running statistics twice.")?;
    outln!(">>> optim = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)")?;
    outln!(">>> optim.step()")?;
    outln!(">>> loss = (model(data) - labels).sum()")?;
    trainer.step(optimizer)?;
    trainer.zero_grad();
    let loss = full.forward(trainer, inputs)?;
    table.row("loss after a step", loss, -4355.15137)?;
    for (name, torch) in [("bn1.running_mean", -0.250842541), ("layer4.1.bn2.running_var", 0.822585762)] {
        table.row(&format!("{name}[0]"), entry(trainer, name)?[0], torch)?;
    }
    outln!("")
}

/// Everything is frozen but a new head, which is trained.
fn train_a_head(trainer: &mut Trainer, frozen: &Step, inputs: &Inputs, optimizer: Optimizer, table: &mut Table) -> Result<Inputs, Failure> {
    outln!("Freeze everything, and put a new head of 10 classes on top.")?;
    outln!(">>> for p in model.parameters(): p.requires_grad = False")?;
    outln!(">>> torch.manual_seed(2); model.fc = torch.nn.Linear(512, 10)")?;
    outln!(">>> labels = torch.rand(1, 10)")?;
    outln!(">>> optim = torch.optim.SGD(model.fc.parameters(), lr=1e-2, momentum=0.9)")?;
    outln!(">>> loss = (model(data) - labels).sum(); loss.backward()")?;
    trainer.switch(frozen.program())?;
    let mut random = Generator::manual_seed(2);
    trainer.init_head(&mut random);
    let few = Inputs { data: inputs.data.clone(), labels: uniform(&mut random, NEW_CLASSES) };
    table.row("loss of the new head", frozen.forward(trainer, &few)?, -8.59231472)?;
    trainer.backward()?;
    table.row("fc.weight", gradient_norm(trainer, "fc.weight")?, 64.9557335)?;
    table.row("fc.bias", gradient_norm(trainer, "fc.bias")?, 3.1622777)?;
    let with: Vec<&str> = trainer.gradients().map(|id| trainer.program().entry(id).name()).collect();
    let all = parameters(trainer.program()).count();
    outln!("    parameters with a gradient: {} ({} of {all})", with.join(", "), with.len())?;
    outln!(">>> optim.step()")?;
    outln!(">>> loss = (model(data) - labels).sum()")?;
    let before = [entry(trainer, "layer4.1.conv2.weight")?, entry(trainer, "fc.weight")?];
    trainer.step(optimizer)?;
    trainer.zero_grad();
    table.row("loss after a step", frozen.forward(trainer, &few)?, -50.8847885)?;
    for (name, before) in ["layer4.1.conv2.weight", "fc.weight"].into_iter().zip(before) {
        let after = entry(trainer, name)?;
        let changed = before.iter().zip(&after).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        outln!("    {name}: {changed} of {} numbers have changed", after.len())?;
    }
    outln!("")?;
    Ok(few)
}
