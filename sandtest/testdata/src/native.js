const crypto = require('crypto');
const os = require('os');

console.log('now', Date.now(), new Date().toISOString());
console.log('CPUs', os.cpus().length, 'memory', os.totalmem(), 'free', os.freemem());
console.log('host', os.hostname(), os.release(), 'up', os.uptime(), 'load', os.loadavg());
console.log('hrtime', process.hrtime.bigint());
console.log('~ random', Math.random(), Math.random());
console.log('~ uuid', crypto.randomUUID());
console.log('~ bytes', crypto.randomBytes(16).toString('hex'));
console.log('~ performance', performance.now());

let start = performance.now();
let sum = 0;
for (let i = 0; i < 100000000; i++) sum += i;
console.log('sum', sum, 'took', performance.now() - start);

start = Date.now();
setTimeout(() => console.log('waited', Date.now() - start), 50);
