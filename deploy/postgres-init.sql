-- A user and a database for each context, and for the record of the simulated provider. The image of PostgreSQL runs this with psql, as
-- the superuser, when its volume is empty. The passwords come from the environment; where one is missing, it stops.

\set ON_ERROR_STOP on
\getenv orders_password ORDERS_DB_PASSWORD
\getenv inventory_password INVENTORY_DB_PASSWORD
\getenv payments_password PAYMENTS_DB_PASSWORD
\getenv simulated_provider_password SIMULATED_PROVIDER_DB_PASSWORD

CREATE ROLE orders LOGIN PASSWORD :'orders_password';
CREATE DATABASE orders OWNER orders;
REVOKE CONNECT, TEMPORARY ON DATABASE orders FROM PUBLIC;

CREATE ROLE inventory LOGIN PASSWORD :'inventory_password';
CREATE DATABASE inventory OWNER inventory;
REVOKE CONNECT, TEMPORARY ON DATABASE inventory FROM PUBLIC;

CREATE ROLE payments LOGIN PASSWORD :'payments_password';
CREATE DATABASE payments OWNER payments;
REVOKE CONNECT, TEMPORARY ON DATABASE payments FROM PUBLIC;

CREATE ROLE simulated_provider LOGIN PASSWORD :'simulated_provider_password';
CREATE DATABASE simulated_provider OWNER simulated_provider;
REVOKE CONNECT, TEMPORARY ON DATABASE simulated_provider FROM PUBLIC;
