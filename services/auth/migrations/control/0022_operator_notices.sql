-- Operators are told by mail when one is made or unmade.
--
-- Locks: for an instant account_mails against everything (a column without a default rewrites nothing, and of mails there are
-- few). Safe for code that is already running: yes, it writes no such mail; a process from before cannot read one that a newer one
-- has written, and the worker asks again.

SET LOCAL lock_timeout = '5s';

-- Whose role it is, and the operator who has changed it: null where a command has. No foreign keys: a mail is gone within two days,
-- and ends no account's end.
ALTER TABLE auth.account_mails ADD COLUMN operator_id uuid, ADD COLUMN actor_id uuid;

ALTER TABLE auth.account_mails DROP CONSTRAINT account_mails_kind;
ALTER TABLE auth.account_mails ADD CONSTRAINT account_mails_kind CHECK (kind IN (
    'password_reset', 'email_change', 'password_changed', 'email_changed', 'second_factor_on', 'second_factor_off',
    'operator_made', 'operator_unmade'
));
ALTER TABLE auth.account_mails ADD CONSTRAINT account_mails_operator
    CHECK ((kind IN ('operator_made', 'operator_unmade')) = (operator_id IS NOT NULL));
ALTER TABLE auth.account_mails ADD CONSTRAINT account_mails_actor CHECK (actor_id IS NULL OR operator_id IS NOT NULL);
