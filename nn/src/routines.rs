//! Tables of routines: what a trainer can compute, so that a linker leaves out everything else.
//!
//! A routine computes one part of an operation: the forward pass of a convolution, say. [`Table::ALL`] lists every
//! routine of this build, and whoever uses it has all of them in the program. A table that lists only what some
//! programs call keeps the other kernels out of a board's flash. [`Table::lacks`] says whether a program can run
//! with a table, and every trainer asks it.
//!
//! ```
//! use nunatak_nn::routines::{Listed, Part, Table};
//!
//! /// What a linear layer with cross entropy calls.
//! static ROUTINES: &[&Listed] = &[
//!     &Listed::of(9, Part::Forward),
//!     &Listed::of(9, Part::BackwardWeight),
//!     &Listed::of(17, Part::Forward),
//!     &Listed::of(17, Part::BackwardInput),
//! ];
//! let table = Table::new(ROUTINES);
//! assert_eq!(table.listed().map(Listed::operation).nth(2), Some("CrossEntropy"));
//! ```

use crate::ops::{Facts, Misfit, ROUTINES, Routine, listed};
use core::fmt::{self, Write};
use nunatak_core::program::{Call, Program};

/// What a routine computes of an operation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    /// The result.
    Forward,
    /// The parameters' gradients, and what the inputs' gradients need of them.
    BackwardWeight,
    /// One input's gradient.
    BackwardInput,
    /// The weight's gradient, its step, and the input's gradient, in one pass.
    BackwardStep,
}

impl Part {
    /// All four.
    pub const ALL: [Part; 4] = [Part::Forward, Part::BackwardWeight, Part::BackwardInput, Part::BackwardStep];

    /// forward, backward_weight, backward_input or backward_step.
    pub const fn name(self) -> &'static str {
        match self {
            Part::Forward => "forward",
            Part::BackwardWeight => "backward_weight",
            Part::BackwardInput => "backward_input",
            Part::BackwardStep => "backward_step",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Reads the operation of a call, and hands on what is known of it.
pub(crate) type ReadFacts = fn(&Call, &mut dyn FnMut(&dyn Facts) -> Result<(), Misfit>) -> Result<(), Misfit>;

/// A routine as a table lists it.
pub struct Listed {
    code: u32,
    operation: &'static str,
    /// The parts that the operation has, a bit for each.
    parts: u8,
    facts: ReadFacts,
    routine: Routine,
}

impl Listed {
    /// The routine that computes a part of the operation which programs name by this code. Call it where a
    /// constant is made: what is made when a program runs has every routine in it.
    ///
    /// # Panics
    /// Where the operation has no such part, or this build has it not (feature `operations`).
    pub const fn of(code: u32, part: Part) -> Listed {
        match listed(code, part) {
            Some(listed) => listed,
            None => panic!("no operation of this build has this code and this part (feature `operations`)"),
        }
    }

    /// The routine of a part, if it is among those of the operation.
    pub(crate) const fn among(code: u32, operation: &'static str, facts: ReadFacts, of: &[Routine], part: Part) -> Option<Listed> {
        let (mut parts, mut found, mut i) = (0, None, 0);
        while i < of.len() {
            parts |= of[i].part.bit();
            if of[i].part as u8 == part as u8 {
                found = Some(of[i]);
            }
            i += 1;
        }
        match found {
            Some(routine) => Some(Listed { code, operation, parts, facts, routine }),
            None => None,
        }
    }

    /// The number by which programs name the operation.
    pub const fn code(&self) -> u32 {
        self.code
    }
    /// The operation's name in this crate: `Conv2d`, `BatchNormPool`, …
    pub const fn operation(&self) -> &'static str {
        self.operation
    }
    /// What is computed of it.
    pub const fn part(&self) -> Part {
        self.routine.part
    }
}

/// The operation's name in small letters, and the part: `batch_norm_pool_forward`. It is the routine's name in C,
/// behind `nunatak_`.
impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (i, letter) in self.operation.char_indices() {
            if i > 0 && letter.is_ascii_uppercase() {
                f.write_char('_')?;
            }
            f.write_char(letter.to_ascii_lowercase())?;
        }
        write!(f, "_{}", self.part().name())
    }
}

impl fmt::Debug for Listed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Room for every routine of this build, in the order of codes and parts.
const COUNT: usize = {
    let (mut count, mut i) = (0, 0);
    while i < ROUTINES.len() {
        count += ROUTINES[i].len();
        i += 1;
    }
    count
};

static ALL: [&Listed; COUNT] = {
    let (mut all, mut count, mut i) = ([&ROUTINES[ROUTINES.len() - 1][0]; COUNT], 0, 0);
    while i < ROUTINES.len() {
        let mut j = 0;
        while j < ROUTINES[i].len() {
            all[count] = &ROUTINES[i][j];
            count += 1;
            j += 1;
        }
        i += 1;
    }
    all
};

/// The routines that a trainer can call.
#[derive(Clone, Copy, Debug)]
pub struct Table(&'static [&'static Listed]);

impl Table {
    /// Every routine of this build.
    pub const ALL: Table = Table(&ALL);
    /// How many these are.
    pub const COUNT: usize = COUNT;

    /// These routines, in any order.
    pub const fn new(listed: &'static [&'static Listed]) -> Table {
        Table(listed)
    }

    /// The routine with this number in the table.
    ///
    /// # Panics
    /// Where there are not so many.
    pub const fn get(self, i: usize) -> &'static Listed {
        self.0[i]
    }
    /// The routines.
    pub fn listed(self) -> impl Iterator<Item = &'static Listed> {
        self.0.iter().copied()
    }

    /// The routine of a part of an operation.
    pub(crate) fn find(self, code: u32, part: Part) -> Option<&'static Routine> {
        self.listed().find(|listed| listed.code == code && listed.part() == part).map(|listed| &listed.routine)
    }

    /// Hands on what is known of a call's operation.
    ///
    /// # Errors
    /// Where no routine of the operation is listed, or the call does not fit it; those of `with`.
    pub(crate) fn facts(self, call: &Call, mut with: impl FnMut(&dyn Facts) -> Result<(), Misfit>) -> Result<(), Misfit> {
        let of = self.listed().find(|listed| listed.code == call.op()).ok_or(MISSING)?;
        (of.facts)(call, &mut with)
    }

    /// Whether the operation of this code has a part; false where no routine of it is listed.
    fn has(self, code: u32, part: Part) -> bool {
        self.listed().find(|listed| listed.code == code).is_some_and(|listed| listed.parts & part.bit() != 0)
    }

    /// Whether the weight's gradient of a call is a sum of products of its input and dy, whatever its algorithm: so it is
    /// of the operations that can go through the weight once for all.
    pub(crate) fn is_product(self, call: &Call) -> bool {
        self.has(call.op(), Part::BackwardStep)
    }

    /// Whether every routine is listed that a call runs.
    ///
    /// # Errors
    /// A text that says that one is missing.
    pub(crate) fn covers(self, call: &Call) -> Result<(), Misfit> {
        match parts(call).all(|part| self.find(call.op(), part).is_some() || optional(part) && !self.has(call.op(), part)) {
            true => Ok(()),
            false => Err(MISSING),
        }
    }

    /// The first routine that a program calls and this table does not list, as a code and a part.
    pub fn lacks(self, program: &Program) -> Option<(u32, Part)> {
        needed(program).find(|(code, part)| self.find(*code, *part).is_none())
    }
}

const MISSING: Misfit =
    "its operation or pass is unknown, or not in this table of routines, or this build has it not (feature `operations`)";

/// The operation may be without this part.
fn optional(part: Part) -> bool {
    part == Part::BackwardWeight
}

/// The parts of its operation that a call runs, if the operation has them.
fn parts(call: &Call) -> impl Iterator<Item = Part> + use<> {
    let last = match call.is_one_pass() {
        true => Some(Part::BackwardStep),
        false => (0..call.inputs()).any(|i| call.wants_input(i)).then_some(Part::BackwardInput),
    };
    let list = match call.is_backward() {
        false => [Some(Part::Forward), None],
        true => [Some(Part::BackwardWeight), last],
    };
    list.into_iter().flatten()
}

/// Every routine that a program calls, as code and part; one is named as often as it is called.
pub fn needed<'p>(program: &'p Program) -> impl Iterator<Item = (u32, Part)> + 'p {
    let of = |call: Call<'p>| parts(&call).filter_map(move |part| listed(call.op(), part).map(|_| (call.op(), part)));
    program.forward().chain(program.backward()).flat_map(of)
}
