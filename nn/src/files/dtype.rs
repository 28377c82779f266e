//! The types of elements that files name: those that are converted, and those of which only the
//! size is known.

/// The type of a tensor's elements in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// 64-bit floating point.
    F64,
    /// 32-bit floating point.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an `F32`.
    BF16,
    /// 64-bit signed integer.
    I64,
    /// 32-bit signed integer.
    I32,
    /// 16-bit signed integer.
    I16,
    /// 8-bit signed integer.
    I8,
    /// 64-bit unsigned integer.
    U64,
    /// 32-bit unsigned integer.
    U32,
    /// 16-bit unsigned integer.
    U16,
    /// 8-bit unsigned integer.
    U8,
    /// One byte, 0 or 1.
    Bool,
    /// A type whose numbers are not read: complex, quantised, of 8 bits and fewer. A file may hold
    /// such tensors beside those that are wanted.
    Other {
        /// Its name, as safetensors or PyTorch writes it.
        name: &'static str,
        /// Bits of one element.
        bits: u8,
    },
}

impl Dtype {
    /// The types whose numbers are read.
    pub(crate) const READ: [Dtype; 13] = [
        Self::F64,
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::I64,
        Self::I32,
        Self::I16,
        Self::I8,
        Self::U64,
        Self::U32,
        Self::U16,
        Self::U8,
        Self::Bool,
    ];

    /// The other types of safetensors.
    pub(crate) const UNREAD: [Dtype; 9] = [
        other("C64", 64),
        other("F8_E4M3", 8),
        other("F8_E5M2", 8),
        other("F8_E4M3FNUZ", 8),
        other("F8_E5M2FNUZ", 8),
        other("F8_E8M0", 8),
        other("F6_E2M3", 6),
        other("F6_E3M2", 6),
        other("F4", 4),
    ];

    /// Bits of one element.
    pub fn bits(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 64,
            Self::F32 | Self::I32 | Self::U32 => 32,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 16,
            Self::I8 | Self::U8 | Self::Bool => 8,
            Self::Other { bits, .. } => bits.into(),
        }
    }

    /// Bytes of one element; 1 where it takes fewer than 8 bits.
    pub fn size(self) -> usize {
        self.bits().div_ceil(8)
    }

    /// Bytes of so many elements; `None` where they end inside a byte or do not fit the address space.
    pub(crate) fn bytes(self, elements: usize) -> Option<usize> {
        match self.bits() {
            bits if bits.is_multiple_of(8) => elements.checked_mul(bits / 8),
            bits => elements.checked_mul(bits).filter(|n| n.is_multiple_of(8)).map(|n| n / 8),
        }
    }

    /// Whether elements are floating-point numbers.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16)
    }

    /// Whether its numbers are read.
    pub fn is_read(self) -> bool {
        !matches!(self, Self::Other { .. })
    }

    /// The name that safetensors uses: `"F32"`, `"BF16"`, `"BOOL"`, …; of a type that it has not,
    /// PyTorch's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::I16 => "I16",
            Self::I8 => "I8",
            Self::U64 => "U64",
            Self::U32 => "U32",
            Self::U16 => "U16",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
            Self::Other { name, .. } => name,
        }
    }
}

const fn other(name: &'static str, bits: u8) -> Dtype {
    Dtype::Other { name, bits }
}

/// PyTorch's classes of storages: their names without `Storage`, and the type of their elements.
#[cfg(feature = "std")]
pub(crate) const STORAGES: [(&str, Dtype); 18] = [
    ("Double", Dtype::F64),
    ("Float", Dtype::F32),
    ("Half", Dtype::F16),
    ("BFloat16", Dtype::BF16),
    ("Long", Dtype::I64),
    ("Int", Dtype::I32),
    ("Short", Dtype::I16),
    ("Char", Dtype::I8),
    ("Byte", Dtype::U8),
    ("Bool", Dtype::Bool),
    // Bytes, whose type stands with the tensor.
    ("Untyped", other("untyped", 8)),
    ("ComplexFloat", other("complex64", 64)),
    ("ComplexDouble", other("complex128", 128)),
    ("QInt8", other("qint8", 8)),
    ("QUInt8", other("quint8", 8)),
    ("QInt32", other("qint32", 32)),
    ("QUInt4x2", other("quint4x2", 8)),
    ("QUInt2x4", other("quint2x4", 8)),
];
