"""The tests of Headway; folders mirror the packages."""
