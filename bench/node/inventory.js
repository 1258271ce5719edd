// The smallest Inventory: counts units in a Map. usage: node inventory.js PORT UNITS_PER_SKU
'use strict';
const { serve } = require('./serve.js');

const [port, units] = process.argv.slice(2).map(Number);
const left = new Map();

serve(port, '/reserve', ({ sku, qty }) => {
  const have = left.get(sku) ?? units;
  if (have < qty) return [409, { error: 'out_of_stock' }];
  left.set(sku, have - qty);
  return [200, { sku, qty }];
});
