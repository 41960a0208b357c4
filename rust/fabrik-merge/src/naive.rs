//! The obvious version of the merge.
