// The smallest Orders: reserves over HTTP, keeps orders in a Map. usage: node orders.js PORT INVENTORY_URL
'use strict';
const { randomUUID } = require('node:crypto');
const { serve } = require('./serve.js');

const [port, inventory] = process.argv.slice(2);
const orders = new Map();

serve(Number(port), '/orders', async ({ items }) => {
  for (const { sku, qty } of items) {
    const reserved = await fetch(`${inventory}/reserve`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ sku, qty }),
    });
    await reserved.arrayBuffer(); // frees the connection for the next fetch
    if (reserved.status === 409) return [409, { error: 'out_of_stock' }];
    if (!reserved.ok) return [503, { error: 'unavailable' }];
  }
  const orderId = randomUUID();
  orders.set(orderId, items);
  return [201, { orderId }];
});
