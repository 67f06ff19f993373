//! Tests of the networking mechanism against the real kernel. They need root and are skipped loudly without it.
#![cfg(test)]

mod root;
