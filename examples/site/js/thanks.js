// Greets by the name that the form put into the address.
const name = new URLSearchParams(location.search).get('name');
if (name) document.getElementById('thanks').prepend(`${name}: `);
