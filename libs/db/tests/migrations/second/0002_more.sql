-- For tests of the migrator of control schemas.
ALTER TABLE things ADD COLUMN more text NULL;
