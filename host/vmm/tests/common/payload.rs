//! A guest of a few instructions, as an ELF file that a VMM can boot.

/// Where payloads are loaded: 1 MiB, the lowest that is allowed.
pub const BASE: u32 = 0x10_0000;

/// Machine code under construction. Unless said otherwise it is the same in 32-bit and in 64-bit mode.
#[derive(Clone, Default)]
pub struct Payload(Vec<u8>);

impl Payload {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The machine code itself.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The bytes themselves.
    pub fn code(&self) -> &[u8] {
        &self.0
    }

    /// `mov dx, port; mov al, value; out dx, al`
    pub fn out(self, port: u16, value: u8) -> Self {
        let [low, high] = port.to_le_bytes();
        self.bytes(&[0x66, 0xba, low, high, 0xb0, value, 0xee])
    }

    /// Prints through the serial port.
    pub fn print(self, text: &str) -> Self {
        text.bytes().fold(self, |payload, byte| payload.out(0x3f8, byte))
    }

    /// 32-bit: prints the zero-terminated bytes that ESI points at.
    pub fn print_string_at_esi(self) -> Self {
        // mov dx, 0x3f8; next: lodsb; test al, al; jz done; out dx, al; jmp next; done:
        self.bytes(&[0x66, 0xba, 0xf8, 0x03, 0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8])
    }

    /// 32-bit: prints the bytes at `address` as they are.
    pub fn print_memory(self, address: u32, count: u32) -> Self {
        // mov esi, address; mov ecx, count; mov dx, 0x3f8; next: lodsb; out dx, al; dec ecx; jnz next
        let [a, b, c, d] = address.to_le_bytes();
        let [e, f, g, h] = count.to_le_bytes();
        self.bytes(&[
            0xbe, a, b, c, d, 0xb9, e, f, g, h, 0x66, 0xba, 0xf8, 0x03, 0xac, 0xee, 0x49, 0x75, 0xfb,
        ])
    }

    /// 32-bit: `mov byte [address], value`
    pub fn store(self, address: u32, value: u8) -> Self {
        let [a, b, c, d] = address.to_le_bytes();
        self.bytes(&[0xc6, 0x05, a, b, c, d, value])
    }

    /// 32-bit: `mov word [0x472], 0x1234`, what a panicking kernel leaves.
    pub fn mark_panic(self) -> Self {
        self.bytes(&[0x66, 0xc7, 0x05, 0x72, 0x04, 0, 0, 0x34, 0x12])
    }

    /// Resets through the keyboard controller, then waits for that to happen.
    pub fn reset(self) -> Self {
        self.out(0x64, 0xfe).bytes(&[0xf4, 0xeb, 0xfd])
    }

    /// Resets through the reset control register, then waits for that to happen.
    pub fn power_off(self) -> Self {
        self.out(0xcf9, 0x02).out(0xcf9, 0x0e).bytes(&[0xf4, 0xeb, 0xfd])
    }

    /// 32-bit: an invalid instruction without any handler.
    pub fn triple_fault(self) -> Self {
        // lidt [0x5000], which is all zero; ud2
        self.bytes(&[0x0f, 0x01, 0x1d, 0x00, 0x50, 0, 0, 0x0f, 0x0b])
    }

    /// Prints `byte` for ever.
    pub fn print_for_ever(self, byte: u8) -> Self {
        // mov dx, 0x3f8; mov al, byte; next: out dx, al; jmp next
        self.bytes(&[0x66, 0xba, 0xf8, 0x03, 0xb0, byte, 0xee, 0xeb, 0xfd])
    }

    /// An ELF file with a PVH note: entered in 32-bit mode.
    pub fn pvh(self) -> Vec<u8> {
        elf(&self.0, true, u64::from(BASE))
    }

    /// An ELF file without a note, linked like Linux into the upper half: entered in 64-bit mode.
    pub fn linux64(self) -> Vec<u8> {
        elf(&self.0, false, 0xffff_ffff_8000_0000 + u64::from(BASE))
    }

    /// An ELF file without a note, linked like any program.
    pub fn program(self) -> Vec<u8> {
        elf(&self.0, false, u64::from(BASE))
    }
}

/// ELF header, two program headers (code and note), the note at 0x200, the code at 0x1000.
fn elf(code: &[u8], note: bool, virtual_base: u64) -> Vec<u8> {
    const CODE: usize = 0x1000;
    const NOTE: usize = 0x200;
    let mut file = Vec::new();
    file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // e_type EXEC, e_machine x86-64, e_version
    file.extend_from_slice(&[2, 0, 62, 0, 1, 0, 0, 0]);
    file.extend_from_slice(&u64::from(BASE).to_le_bytes());
    file.extend_from_slice(&64u64.to_le_bytes());
    file.extend_from_slice(&0u64.to_le_bytes());
    // e_flags, e_ehsize, e_phentsize, e_phnum, no sections
    file.extend_from_slice(&[0, 0, 0, 0, 64, 0, 56, 0, if note { 2 } else { 1 }, 0, 64, 0, 0, 0, 0, 0]);
    let header = |kind: u32, offset: usize, vaddr: u64, paddr: u64, size: usize| {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&7u32.to_le_bytes());
        for value in [offset as u64, vaddr, paddr, size as u64, size as u64, 0x1000] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes
    };
    file.extend(header(1, CODE, virtual_base, BASE.into(), code.len()));
    if note {
        file.extend(header(4, NOTE, 0, 0, 20));
    }
    file.resize(NOTE, 0);
    // XEN_ELFNOTE_PHYS32_ENTRY
    for value in [4u32, 4, 18] {
        file.extend_from_slice(&value.to_le_bytes());
    }
    file.extend_from_slice(b"Xen\0");
    file.extend_from_slice(&BASE.to_le_bytes());
    file.resize(CODE, 0);
    file.extend_from_slice(code);
    file
}
