//! Fusing: fewer passes over memory, as a rewrite of the recorded steps before they are planned.
//!
//! | recorded | becomes | where |
//! |---|---|---|
//! | batchnorm, add, relu | `batchnorm+add+relu`, one pass (add or relu may be absent) | always |
//! | conv2d, the above with running statistics | `conv2d+batchnorm+add+relu`: the convolution's output is normalised in the cache | no gradient passes there |
//! | `conv2d+batchnorm`, relu6 or hardswish | `conv2d+batchnorm+relu6`, likewise in the cache | no gradient passes there |
//! | conv2d, the above with the batch's statistics | `conv2d+moments`, which leaves the statistics behind its output, and `batchnorm+…` | always |
//! | `batchnorm+relu` with the batch's statistics, maxpool | `batchnorm+relu+maxpool`, one pass | always |
//!
//! A fused step stands where the last of its parts stood, so the numbers of values stay; the others'
//! places are empty. What is inside a fused step is not a value any more. So a value that is to be kept
//! (an embedding, an expression of one's own, where a gradient is fed in) is a barrier, and so is one with
//! two readers.
//!
//! The formulas are those of the ops alone: the same bits, but for the batch's statistics, which
//! `conv2d+moments` sums in another order.

use super::Asked;
use crate::Error;
use crate::ops::{BatchNorm, BatchNormPool, Conv2d, Finish, Op, Pointwise, Then};
use nunatak_core::needs::Needs;
use nunatak_core::tape::{Tape, ValueId};
use nunatak_kernels::conv2d::Activation;
use nunatak_kernels::pointwise::Pointwise as Function;

/// Rewrites `tape`.
///
/// # Errors
/// [`nunatak_core::Error::ListFull`].
pub(crate) fn fuse(tape: &mut Tape<Op>, needs: &mut Needs, asked: &Asked) -> Result<(), Error> {
    for v in tape.values() {
        what_follows(tape, asked, v)?;
    }
    needs.find(tape, asked.root, asked.choice.trainable, asked.keep_gradients)?;
    for v in tape.values() {
        convolution_before(tape, needs, asked, v)?;
    }
    for v in tape.values() {
        activation_behind(tape, needs, asked, v)?;
        normalisation_before(tape, asked, v)?;
    }
    Ok(())
}

/// Takes the activation `v` into the convolution that normalises, where no gradient passes.
fn activation_behind(tape: &mut Tape<Op>, needs: &Needs, asked: &Asked, v: ValueId) -> Result<(), Error> {
    let Op::Pointwise(Pointwise { function, .. }) = tape.node(v)?.op else { return Ok(()) };
    let activation = match function {
        Function::Relu6 => Activation::Relu6,
        Function::Hardswish => Activation::Hardswish,
        _ => return Ok(()), // a convolution's finish has no other
    };
    let before = tape.inputs(v)[0];
    let Op::Conv2d(conv) = tape.node(before)?.op else { return Ok(()) };
    let Finish::Normalise(norm) = conv.finish else { return Ok(()) };
    if norm.then.activation != Activation::None || only_reader(tape, asked, before) != Some(v) || needs.at(v).backward() {
        return Ok(());
    }
    let finish = Finish::Normalise(BatchNorm { then: Then { activation, ..norm.then }, ..norm });
    let (x, residual) = (tape.inputs(before)[0], tape.inputs(before).get(1).copied());
    tape.absorb(before)?;
    let inputs = [x, residual.unwrap_or(x)];
    Ok(tape.rewrite(v, Op::Conv2d(Conv2d { finish, ..conv }), &inputs[..1 + usize::from(residual.is_some())])?)
}

/// Joins the max-pooling `v` with the normalisation and relu before it.
fn normalisation_before(tape: &mut Tape<Op>, asked: &Asked, v: ValueId) -> Result<(), Error> {
    let Op::MaxPool(pool) = tape.node(v)?.op else { return Ok(()) };
    let before = tape.inputs(v)[0];
    let Op::BatchNorm(norm) = tape.node(before)?.op else { return Ok(()) };
    if norm.batch && norm.then.relu() && !norm.then.add && only_reader(tape, asked, before) == Some(v) {
        let x = tape.inputs(before)[0];
        tape.absorb(before)?;
        tape.rewrite(v, Op::BatchNormPool(BatchNormPool { norm, pool }), &[x])?;
    }
    Ok(())
}

/// Takes the addition and the relu behind the normalisation `v` into it.
fn what_follows(tape: &mut Tape<Op>, asked: &Asked, v: ValueId) -> Result<(), Error> {
    let Op::BatchNorm(norm) = tape.node(v)?.op else { return Ok(()) };
    if norm.then != Then::default() {
        return Ok(()); // it stands where what follows stood
    }
    let x = tape.inputs(v)[0];
    let (mut last, mut residual, mut activation) = (v, None, Activation::None);
    if let Some(sum) = only_reader(tape, asked, last)
        && let Op::Add(_) = tape.node(sum)?.op
    {
        residual = tape.inputs(sum).iter().copied().find(|x| *x != last);
        tape.absorb(last)?;
        last = sum;
    }
    // A normalisation with its relu writes zeros over the gradient of the result where relu let nothing through: not
    // where that gradient is to be read.
    if let Some(positive) = only_reader(tape, asked, last)
        && let Op::Relu(_) = tape.node(positive)?.op
        && !asked.keep_gradients.contains(&positive)
    {
        activation = Activation::Relu;
        tape.absorb(last)?;
        last = positive;
    }
    let op = Op::BatchNorm(BatchNorm { then: Then { add: residual.is_some(), activation, ..norm.then }, ..norm });
    let inputs = [x, residual.unwrap_or(x)];
    Ok(tape.rewrite(last, op, &inputs[..1 + usize::from(residual.is_some())])?)
}

/// Joins the normalisation `v` with the convolution before it.
fn convolution_before(tape: &mut Tape<Op>, needs: &Needs, asked: &Asked, v: ValueId) -> Result<(), Error> {
    let Op::BatchNorm(norm) = tape.node(v)?.op else { return Ok(()) };
    let before = tape.inputs(v)[0];
    let Op::Conv2d(conv) = tape.node(before)?.op else { return Ok(()) };
    if conv.bias.is_some() {
        return Ok(()); // the bias comes first; such layers are rare
    }
    let x = tape.inputs(before)[0];
    if norm.batch {
        tape.nodes_mut()[before.index()].op = Op::Conv2d(Conv2d { finish: Finish::Moments, ..conv });
        tape.nodes_mut()[v.index()].op = Op::BatchNorm(BatchNorm { then: Then { moments: true, ..norm.then }, ..norm });
    } else if matches!(conv.finish, Finish::Nothing)
        && only_reader(tape, asked, before) == Some(v)
        && !needs.at(v).backward()
        && !needs.at(before).backward()
    {
        let residual = tape.inputs(v).get(1).copied();
        let inputs = [x, residual.unwrap_or(x)];
        let op = Op::Conv2d(Conv2d { finish: Finish::Normalise(norm), ..conv }.over_residual(&asked.choice.context));
        tape.rewrite(v, op, &inputs[..1 + usize::from(residual.is_some())])?;
        tape.absorb(before)?;
    }
    Ok(())
}

/// The step that alone reads `v`, once, where `v` need not be kept.
fn only_reader(tape: &Tape<Op>, asked: &Asked, v: ValueId) -> Option<ValueId> {
    if asked.is_seen(v) {
        return None;
    }
    let readers = || tape.values().flat_map(|r| tape.inputs(r).iter().filter(|x| **x == v).map(move |_| r));
    readers().next().filter(|_| readers().nth(1).is_none())
}
