"""What a router must do, row by row, as black-box tests from three hosts around it; see docs/conformance.md."""
