//! Building classic BPF from its end to its beginning.
//!
//! Start reading at [`Assembler`]. A jump of classic BPF only goes forward, and a conditional one at most 255
//! instructions far. Built backwards, every target is known when a jump to it is made, and a target that is too far gets a
//! longer jump right behind the conditional one.

use crate::sys::BpfInstruction;

const LOAD_ABSOLUTE: u16 = 0x20;
const AND_CONSTANT: u16 = 0x54;
const RETURN_CONSTANT: u16 = 0x06;
const JUMP_ALWAYS: u16 = 0x05;

/// A comparison of the accumulator with a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal = 0x15,
    Greater = 0x25,
    GreaterOrEqual = 0x35,
}

/// An instruction that has been emitted: its distance from the end of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Label(usize);

/// A program, the last instruction first.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    reversed: Vec<BpfInstruction>,
    /// The latest place that returns each value.
    returns: Vec<(u32, Label)>,
}

impl Assembler {
    /// Gives the program in the order of the kernel.
    pub(crate) fn finish(self) -> Vec<BpfInstruction> {
        self.reversed.into_iter().rev().collect()
    }

    fn emit(&mut self, code: u16, jumps: (u8, u8), operand: u32) -> Label {
        let (jump_true, jump_false) = jumps;
        self.reversed.push(BpfInstruction { code, jump_true, jump_false, operand });
        Label(self.reversed.len() - 1)
    }

    /// Emits a load of a word of `struct seccomp_data`, continuing with what was emitted last.
    pub(crate) fn load(&mut self, offset: u32) -> Label {
        self.emit(LOAD_ABSOLUTE, (0, 0), offset)
    }

    /// Emits a mask of the accumulator, continuing with what was emitted last.
    pub(crate) fn mask(&mut self, mask: u32) -> Label {
        self.emit(AND_CONSTANT, (0, 0), mask)
    }

    /// Gives a place that returns the value.
    pub(crate) fn returning(&mut self, value: u32) -> Label {
        match self.returns.iter().find(|(known, _)| *known == value) {
            Some((_, label)) => *label,
            None => self.emit_return(value),
        }
    }

    fn emit_return(&mut self, value: u32) -> Label {
        let label = self.emit(RETURN_CONSTANT, (0, 0), value);
        self.returns.retain(|(known, _)| *known != value);
        self.returns.push((value, label));
        label
    }

    /// Makes what is emitted next continue at `target`.
    pub(crate) fn continue_at(&mut self, target: Label) {
        if target.0 + 1 != self.reversed.len() {
            let distance = self.distance(target, 0);
            self.emit(JUMP_ALWAYS, (0, 0), u32::try_from(distance).unwrap_or(u32::MAX));
        }
    }

    /// Emits a comparison of the accumulator that goes on at one of two places.
    pub(crate) fn branch(&mut self, comparison: Comparison, operand: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            self.continue_at(yes);
            return Label(self.reversed.len() - 1);
        }
        // Making one near can push the other over the limit by one instruction, hence the reserve.
        let yes = self.near(yes);
        let no = self.near(no);
        let jump = |this: &Self, label| u8::try_from(this.distance(label, 0)).unwrap_or(u8::MAX);
        let jumps = (jump(self, yes), jump(self, no));
        self.emit(comparison as u16, jumps, operand)
    }

    /// Counts the instructions between the next one, moved back by `more`, and a target.
    fn distance(&self, target: Label, more: usize) -> usize {
        self.reversed.len() + more - 1 - target.0
    }

    fn near(&mut self, target: Label) -> Label {
        const LONGEST: usize = 255;
        if self.distance(target, 2) <= LONGEST {
            return target;
        }
        // A far return is repeated here, which costs as much as the jump to it.
        match self.reversed.get(target.0) {
            Some(instruction) if instruction.code == RETURN_CONSTANT => self.emit_return(instruction.operand),
            _ => {
                let distance = u32::try_from(self.distance(target, 0)).unwrap_or(u32::MAX);
                self.emit(JUMP_ALWAYS, (0, 0), distance)
            }
        }
    }
}
