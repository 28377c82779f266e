//! What would be code in an unpickler: the names, the calls and the persistent ids of torch.
//!
//! Here they are tables. A name is compared with [`known`]; a call of a known name becomes an entry
//! of the graph if its arguments are exactly those that torch writes, and an error otherwise.

#![forbid(unsafe_code)]

use super::{Reader, pickle};
use crate::checkpoint::entry::{Dtype, MAX_RANK};
use crate::checkpoint::error::{ReadError, ReadErrorKind, quote};
use crate::checkpoint::graph::{Global, Storage, Tensor, Value};

/// Longest key of a storage; torch writes small numbers or addresses.
const KEY_MAX: usize = 64;

impl Reader<'_, '_> {
    pub(super) fn global(&mut self, module: &str, name: &str) -> Result<(), ReadError> {
        let global = known(module, name).ok_or_else(|| {
            let full = quote(&format!("{module}.{name}"));
            if matches!(module, "torch" | "torch.cuda" | "torch.storage") && name.ends_with("Storage") {
                ReadError::new(ReadErrorKind::Unsupported, format!("{full}: a storage of elements that this reader does not convert"))
                    .next("convert the tensors (for example with .float()) and save them again")
            } else {
                pickle(format!("asks for {full}; nothing in a file is ever imported or run"))
                    .next("save the state_dict alone: torch.save(model.state_dict(), …)")
            }
        })?;
        self.push(Value::Global(global))
    }

    pub(super) fn reduce(&mut self, at: usize) -> Result<(), ReadError> {
        let (args, callable) = (self.pop()?, self.pop()?);
        let (Value::Tuple(args), Value::Global(global)) = (args, callable) else {
            return Err(pickle("REDUCE of something that is no known function and tuple"));
        };
        let wrong =
            |name: &str, expected: &str, given: usize| pickle(format!("{name} with {given} arguments or other types; expected {expected}"));
        let args = self.graph.tuple(args);
        let given = args.len();
        let result = match global {
            Global::OrderedDict => match *args {
                [] => self.new_dict(None)?,
                [Value::List(list)] => self.new_dict(Some(list))?,
                _ => return Err(wrong("OrderedDict", "() or ([pairs])", given)),
            },
            Global::RebuildTensor => {
                let tensor = self.tensor(args, at).ok_or_else(|| {
                    wrong("_rebuild_tensor_v2", "(storage, offset ≥ 0, shape, strides ≥ 0 of one length, bool, hooks, no metadata)", given)
                })??;
                let index = self.graph.tensors.len() as u32;
                self.budget.push(&mut self.graph.tensors, tensor)?;
                Value::Tensor(index)
            }
            Global::RebuildParameter => match *args {
                [tensor @ Value::Tensor(_), Value::Bool(_), Value::Dict(_) | Value::None] => tensor,
                _ => return Err(wrong("_rebuild_parameter", "(tensor, bool, hooks)", given)),
            },
            Global::RebuildParameterWithState => match *args {
                [tensor @ Value::Tensor(_), Value::Bool(_), Value::Dict(_) | Value::None, _] => tensor,
                _ => {
                    return Err(wrong("_rebuild_parameter_with_state", "(tensor, bool, hooks, state)", given));
                }
            },
            Global::Storage(_) => {
                return Err(pickle("REDUCE of a storage class, which is only ever named"));
            }
        };
        self.push(result)
    }

    /// The arguments of `_rebuild_tensor_v2`; `None` when they are others.
    fn tensor(&self, args: &[Value], at: usize) -> Option<Result<Tensor, ReadError>> {
        let ([storage, offset, shape, strides, grad, hooks], rest) = args.split_first_chunk::<6>()?;
        let empty = |value: &Value| match value {
            Value::None => true,
            Value::Dict(d) => self.graph.dicts.get(*d as usize).is_some_and(|d| d.len == 0),
            _ => false,
        };
        // The metadata are the bits "conjugate" and "negative", which would change the numbers.
        let rest_fits = matches!(rest, []) || matches!(rest, [only] if empty(only));
        let (Value::Storage(storage), Value::Tuple(shape), Value::Tuple(strides)) = (*storage, *shape, *strides) else {
            return None;
        };
        if !rest_fits || !matches!(grad, Value::Bool(_)) || !matches!(hooks, Value::Dict(_) | Value::None) {
            return None;
        }
        let offset = self.graph.size(*offset)?;
        let (sizes, steps) = (self.graph.tuple(shape), self.graph.tuple(strides));
        if sizes.len() > MAX_RANK {
            return Some(Err(ReadError::new(
                ReadErrorKind::Unsupported,
                format!("a tensor of rank {}, this reader takes at most {MAX_RANK}", sizes.len()),
            )));
        }
        if sizes.len() != steps.len() || sizes.iter().chain(steps).any(|&n| self.graph.size(n).is_none()) {
            return None;
        }
        Some(Ok(Tensor { storage, offset, shape, strides, at: at as u32 }))
    }

    /// `("storage", class, key, location, numel)`, and in legacy files a sixth: no view.
    pub(super) fn persistent_id(&mut self, at: usize) -> Result<(), ReadError> {
        let Value::Tuple(id) = self.pop()? else {
            return Err(pickle("a persistent id that is no tuple"));
        };
        let id = self.graph.tuple(id);
        let storage = match *id {
            [Value::Str(tag), Value::Global(Global::Storage(dtype)), Value::Str(key), Value::Str(_), numel, ref view @ ..]
                if self.graph.str_bytes(tag) == b"storage" =>
            {
                match *view {
                    [] | [Value::None] => {}
                    [Value::Tuple(_)] => {
                        return Err(ReadError::new(
                            ReadErrorKind::Unsupported,
                            "a storage that is a view of another, as torch 0.3 wrote it",
                        )
                        .next("load it and save it again with a newer torch"));
                    }
                    _ => return Err(pickle("a persistent id with too many parts")),
                }
                let elements =
                    self.graph.size(numel).ok_or_else(|| pickle("a persistent id whose number of elements is negative or none"))?;
                let length = self.graph.str_bytes(key).len();
                if length == 0 || length > KEY_MAX {
                    return Err(pickle(format!("a storage key of {length} bytes, expected 1 to {KEY_MAX}")));
                }
                Storage { key, dtype, elements, at: at as u32 }
            }
            _ => {
                return Err(pickle(format!(
                    "a persistent id of {} parts; expected (\"storage\", a storage class, key, location, number of elements)",
                    id.len()
                )));
            }
        };
        let index = self.graph.storages.len() as u32;
        self.budget.push(&mut self.graph.storages, storage)?;
        self.push(Value::Storage(index))
    }
}

/// The whole list of names that a file may mention.
fn known(module: &str, name: &str) -> Option<Global> {
    Some(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch._utils", "_rebuild_parameter_with_state") => Global::RebuildParameterWithState,
        ("torch" | "torch.cuda", class) => Global::Storage(match class {
            "DoubleStorage" => Dtype::F64,
            "FloatStorage" => Dtype::F32,
            "HalfStorage" => Dtype::F16,
            "BFloat16Storage" => Dtype::BF16,
            "LongStorage" => Dtype::I64,
            "IntStorage" => Dtype::I32,
            "ShortStorage" => Dtype::I16,
            "CharStorage" => Dtype::I8,
            "ByteStorage" => Dtype::U8,
            "BoolStorage" => Dtype::Bool,
            _ => return None,
        }),
        _ => return None,
    })
}
