package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/orderkeep/orderkeep/internal/fault"
)

// reachTime bounds the look into one other database of the server.
const reachTime = 3 * time.Second

// reachesNoOther fails if these credentials can read the tables of another context: in another schema of this database, or in
// any database of the server that they may connect to. A boundary that only the code keeps does not last.
func (e *pgEngine) reachesNoOther(ctx context.Context, d *DB, s Schema) error {
	var all bool
	err := d.read.QueryRowContext(ctx, `SELECT rolsuper OR pg_has_role(oid, 'pg_read_all_data', 'USAGE') FROM pg_roles WHERE rolname = current_user`).Scan(&all)
	if err != nil {
		return err
	}
	role := quoted(e.config.User)
	if all {
		return fault.New(fault.Denied, "database_reach", "The user %s may read every table of the server, and each context is to read its own only. Give %s a user of its own: "+
			"CREATE ROLE orderkeep_%s LOGIN PASSWORD '...'; ALTER DATABASE %s OWNER TO orderkeep_%s; and name it in the database URL.",
			role, s.Context, ident(s.Context), quoted(e.config.Database), ident(s.Context))
	}
	if err := foreign(ctx, d.read, s, e.config.Database, role); err != nil {
		return err
	}
	others, err := e.otherDatabases(ctx, d.read)
	if err != nil {
		return err
	}
	for _, name := range others {
		there := e.config.Copy()
		there.Database = name
		// A database that cannot be reached, or goes away meanwhile, cannot be read.
		if err := lookInto(ctx, there, s, role); err != nil && (fault.KindOf(err) == fault.Denied || !e.outOfOrder(err)) {
			return err
		}
	}
	return nil
}

// otherDatabases are those that the user may connect to, as far as the server's tables say.
func (e *pgEngine) otherDatabases(ctx context.Context, conn *sql.DB) ([]string, error) {
	rows, err := conn.QueryContext(ctx, `SELECT datname FROM pg_database
		WHERE datallowconn AND datname <> current_database() AND has_database_privilege(oid, 'CONNECT') ORDER BY datname`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

func lookInto(ctx context.Context, config *pgx.ConnConfig, s Schema, role string) error {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	conn := stdlib.OpenDB(*config)
	defer conn.Close()
	if err := conn.PingContext(ctx); err != nil {
		return nil // pg_hba.conf may say no where the server's tables say yes
	}
	return foreign(ctx, conn, s, config.Database, role)
}

// foreign fails if a schema of the database is another context's and can be read.
func foreign(ctx context.Context, conn *sql.DB, s Schema, name, role string) error {
	rows, err := conn.QueryContext(ctx, `
		SELECT n.nspname, has_table_privilege(c.oid, 'SELECT'), pg_has_role(c.relowner, 'USAGE')
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relname = 'orderkeep_owner' AND c.relkind = 'r' AND has_schema_privilege(n.oid, 'USAGE') AND EXISTS (
			SELECT 1 FROM pg_class t
			WHERE t.relnamespace = n.oid AND t.relkind IN ('r', 'p', 'v', 'm') AND has_table_privilege(t.oid, 'SELECT'))`)
	if err != nil {
		return fmt.Errorf("look whether the tables of another context can be read in %s: %w", name, err)
	}
	defer rows.Close()
	type place struct {
		schema       string
		named, owned bool
	}
	var places []place
	for rows.Next() {
		var p place
		if err := rows.Scan(&p.schema, &p.named, &p.owned); err != nil {
			return err
		}
		places = append(places, p)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, p := range places {
		context := "another context"
		if p.named {
			err := conn.QueryRowContext(ctx, `SELECT context FROM `+quoted(p.schema)+`.orderkeep_owner`).Scan(&context)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
		}
		if context == s.Context {
			continue // this one, or another of the same context
		}
		repair := fmt.Sprintf("REVOKE ALL ON ALL TABLES IN SCHEMA %s FROM %s, PUBLIC; REVOKE CONNECT ON DATABASE %s FROM %s, PUBLIC;", quoted(p.schema), role, quoted(name), role)
		if p.owned {
			other := ident(context)
			repair = fmt.Sprintf("CREATE ROLE orderkeep_%s LOGIN PASSWORD '...'; REASSIGN OWNED BY %s TO orderkeep_%s; ALTER DATABASE %s OWNER TO orderkeep_%s; REVOKE CONNECT ON DATABASE %s FROM PUBLIC;"+
				" and name that user in the other database URL", other, role, other, quoted(name), other, quoted(name))
		}
		return fault.New(fault.Denied, "database_reach", "The user %s can read the tables of %s in the database %s, and %s is to read its own only. Connect to that database as its administrator and run: %s",
			role, context, quoted(name), s.Context, repair)
	}
	return nil
}

func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

// ident makes a context's name, such as simulated-provider, part of a role's.
func ident(context string) string {
	b := []byte(context)
	for i, c := range b {
		if !slices.Contains([]byte("abcdefghijklmnopqrstuvwxyz0123456789"), c) {
			b[i] = '_'
		}
	}
	return string(b)
}
