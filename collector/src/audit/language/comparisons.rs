//! Which fields `-C` can compare with each other.
//!
//! Owns the table of `AUDIT_COMPARE_*` (include/uapi/linux/audit.h).

use crate::audit::rules::Field;

/// The two fields of each comparison, from number 1 on.
const COMPARISONS: [(Field, Field); 25] = [
    (Field::UID, Field::OBJ_UID),
    (Field::GID, Field::OBJ_GID),
    (Field::EUID, Field::OBJ_UID),
    (Field::EGID, Field::OBJ_GID),
    (Field::LOGINUID, Field::OBJ_UID),
    (Field::SUID, Field::OBJ_UID),
    (Field::SGID, Field::OBJ_GID),
    (Field::FSUID, Field::OBJ_UID),
    (Field::FSGID, Field::OBJ_GID),
    (Field::UID, Field::LOGINUID),
    (Field::UID, Field::EUID),
    (Field::UID, Field::FSUID),
    (Field::UID, Field::SUID),
    (Field::LOGINUID, Field::FSUID),
    (Field::LOGINUID, Field::SUID),
    (Field::LOGINUID, Field::EUID),
    (Field::EUID, Field::SUID),
    (Field::EUID, Field::FSUID),
    (Field::SUID, Field::FSUID),
    (Field::GID, Field::EGID),
    (Field::GID, Field::FSGID),
    (Field::GID, Field::SGID),
    (Field::EGID, Field::FSGID),
    (Field::EGID, Field::SGID),
    (Field::SGID, Field::FSGID),
];

/// Comparisons have numbers up to this (`AUDIT_MAX_FIELD_COMPARE`); the kernel refuses others.
pub const COMPARISON_MAX: u32 = COMPARISONS.len() as u32;

/// The number of the comparison of two fields, in either order.
pub fn comparison_number(left: Field, right: Field) -> Option<u32> {
    let index = COMPARISONS
        .iter()
        .position(|pair| *pair == (left, right) || *pair == (right, left))?;
    Some(index as u32 + 1)
}

/// The two fields of comparison `number`, in the order of its name.
pub fn compared_fields(number: u32) -> Option<(Field, Field)> {
    COMPARISONS.get((number as usize).checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_comparison_has_one_number_in_either_order() {
        for number in 1..=COMPARISON_MAX {
            let (left, right) = compared_fields(number).unwrap();
            assert_eq!(comparison_number(left, right), Some(number));
            assert_eq!(comparison_number(right, left), Some(number));
        }
        assert_eq!(compared_fields(0), None);
        assert_eq!(compared_fields(COMPARISON_MAX + 1), None);
        assert_eq!(comparison_number(Field::UID, Field::GID), None);
        assert_eq!(comparison_number(Field::UID, Field::UID), None);
    }
}
